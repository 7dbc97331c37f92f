/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slice.h"

#include <string.h>

#include "base/util.h"

int slice_parse(const char *s, struct slice *ret, struct error *err) {
	char text[SLICE_STR_MAX], *colon, *dash;
	struct slice got;
	int64_t first, last;
	if (strlen(s) < sizeof(text)) {
		strcpy(text, s);
		if ((colon = strchr(text, ':')) && (dash = strchr(colon, '-'))) {
			*colon = *dash = 0;
			if (addr_parse(text, &got.addr, NULL) >= 0 && got.addr.family == AF_INET &&
			    parse_i64(colon + 1, 0, UINT16_MAX, &first, NULL) >= 0 &&
			    parse_i64(dash + 1, first, UINT16_MAX, &last, NULL) >= 0) {
				got.first = (uint16_t)first;
				got.last = (uint16_t)last;
				/* Numbers have one spelling: no sign, no leading zero. */
				if (streq(slice_str(&got, text), s)) {
					*ret = got;
					return 0;
				}
			}
		}
	}
	return error_set(err, EINVAL, "`%.64s`: must be a slice of ports such as 198.51.100.3:1024-1535", s);
}

const char *slice_str(const struct slice *s, char out[static SLICE_STR_MAX]) {
	char addr[ADDR_STR_MAX];
	snprintf(out, SLICE_STR_MAX, "%.15s:%u-%u", addr_str(&s->addr, addr), s->first, s->last);
	return out;
}

int slice_cmp(const struct slice *a, const struct slice *b) {
	int r = addr_cmp(&a->addr, &b->addr);
	if (!r)
		r = (a->first > b->first) - (a->first < b->first);
	return r ? r : (a->last > b->last) - (a->last < b->last);
}

uint32_t slice_size(const struct slice *s) {
	return (uint32_t)s->last - s->first + 1;
}

bool slice_is_aligned(const struct slice *s) {
	uint32_t size = slice_size(s);
	return s->first <= s->last && (size & (size - 1)) == 0 && (s->first & (size - 1)) == 0;
}

bool slice_contains(const struct slice *s, const struct addr *addr, uint16_t port) {
	return port >= s->first && port <= s->last && addr_cmp(&s->addr, addr) == 0;
}

bool slice_overlaps(const struct slice *a, const struct slice *b) {
	return a->first <= b->last && b->first <= a->last && addr_cmp(&a->addr, &b->addr) == 0;
}

struct slice slice_of(const struct addr *addr, uint16_t port, uint32_t size) {
	uint16_t mask = (uint16_t)(size - 1);
	return (struct slice){.addr = *addr, .first = (uint16_t)(port & ~mask), .last = port | mask};
}
