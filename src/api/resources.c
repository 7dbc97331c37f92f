/* SPDX-License-Identifier: Apache-2.0 */
#include "api/resources.h"

#include <string.h>

#include "base/util.h"

static const struct {
	const char *name, *too, *unit;
} rows[] = {
#define RESOURCE_ROW(F, T, m, name, column, title, too, unit, ...) {name, too, unit},
	RESOURCES(RESOURCE_ROW, _, _)};
#define RESOURCE_NAME_FITS(F, T, m, name, ...) \
	_Static_assert(sizeof(name "=-9223372036854775808,") <= 48, name " and an amount are too long for a list");
RESOURCES(RESOURCE_NAME_FITS, _, _)

struct resources resources_times(const struct resources *one, int64_t n) {
	struct resources ret;
	RESOURCES_FOREACH (i)
		if (__builtin_mul_overflow(one->v[i], n, &ret.v[i]))
			ret.v[i] = (one->v[i] < 0) == (n < 0) ? INT64_MAX : INT64_MIN;
	return ret;
}

bool resources_equal(const struct resources *a, const struct resources *b) {
	return !memcmp(a->v, b->v, sizeof(a->v));
}

const char *resources_name(int row) {
	return rows[row].name;
}

/* Returns the row of WHICH with the next name after that of row AFTER (-1: the first name); -1: there is none. */
static int resources_next_by_name(unsigned which, int after) {
	int best = -1;
	RESOURCES_FOREACH (i)
		if (which & 1U << i && (after < 0 || strcmp(rows[i].name, rows[after].name) > 0) &&
		    (best < 0 || strcmp(rows[i].name, rows[best].name) < 0))
			best = i;
	return best;
}

const char *resources_print(const struct resources *r, unsigned which, char out[static RESOURCES_TEXT_MAX]) {
	size_t n = 0;
	out[0] = '\0';
	for (int i = -1; (i = resources_next_by_name(which, i)) >= 0;)
		n += (size_t)snprintf(out + n, RESOURCES_TEXT_MAX - n, "%s%s=%lld", n ? "," : "", rows[i].name,
		                      (long long)r->v[i]);
	return out;
}

const char *resources_print_short(int row, int64_t free, int64_t asked, char out[static RESOURCE_SHORT_MAX]) {
	snprintf(out, RESOURCE_SHORT_MAX, "%s (free %lld%s at most, asked %lld)", rows[row].too, (long long)free,
	         rows[row].unit, (long long)asked);
	return out;
}
