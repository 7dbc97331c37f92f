/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/status.h"

#include <string.h>

#include "base/jsonread.h"
#include "base/jsonwrite.h"
#include "base/util.h"

static const char *const state_names[] = {"starting", "running", "paused", "stopping", "ended", NULL};
static const char *const end_names[] = {"",          "PoweredOff",  "Stopped",     "Killed",        "Failed",
                                        "CPUFailed", "StartFailed", "OutOfMemory", "ForbiddenCall", "ForbiddenWrite",
                                        NULL};

const char *vm_end_name(enum vm_end end) {
	return end == VM_END_NONE ? NULL : end_names[end];
}

void vm_status_print(const struct vm_status *s, struct buf *out) {
	char since[TIME_STR_MAX];

	jw_begin(out, '{');
	jw_kv_string(out, "state", state_names[s->state]);
	jw_kv_string(out, "since", time_str(s->since_us, true, since));
	jw_kv_i64(out, "resets", s->resets);
	if (s->end) {
		jw_kv_string(out, "reason", end_names[s->end]);
		jw_kv_string(out, "message", s->message);
	}
	jw_end(out, '}');
}

static int status_find(const char *const *names, const char *text) {
	for (int i = 0; names[i]; i++)
		if (streq(names[i], text))
			return i;
	return -EINVAL;
}

/* The text comes from nacre-vm, which a guest may have taken over, and is shown on terminals. */
void vm_status_plain(char *text) {
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			*p = '?';
}

static int status_take(struct vm_status *s, const char *key, const char *value, struct error *err) {
	int n = 0;

	if (streq(key, "state")) {
		n = status_find(state_names, value);
		s->state = (enum vm_state)n;
	} else if (streq(key, "reason")) {
		n = status_find(end_names, value);
		s->end = (enum vm_end)n;
	} else if (streq(key, "since")) {
		n = time_parse(value, &s->since_us);
	} else if (streq(key, "message")) {
		snprintf(s->message, sizeof(s->message), "%s", value);
		vm_status_plain(s->message);
	}
	return n < 0 ? error_set(err, EINVAL, "%s: unknown value `%.64s`", key, value) : 0;
}

int vm_status_parse(const char *text, size_t len, struct vm_status *ret, struct error *err) {
	_cleanup_(jr_done) struct jr r;
	struct vm_status s = {0};
	const char *k, *v;
	size_t klen, vlen;

	jr_init(&r, text, len);
	if (jr_object(&r) < 0)
		return jr_error(&r, err);
	while (jr_key(&r, &k, &klen) > 0) {
		char key[16], value[sizeof(s.message)];
		snprintf(key, sizeof(key), "%.*s", (int)MIN(klen, sizeof(key)), k);
		if (streq(key, "resets")) {
			if (jr_i64(&r, &s.resets) < 0)
				break;
			continue;
		}
		if (jr_peek(&r) != JR_STRING) {
			if (jr_skip(&r, NULL, NULL) < 0)
				break;
			continue;
		}
		if (jr_string(&r, &v, &vlen) < 0)
			break;
		snprintf(value, sizeof(value), "%.*s", (int)MIN(vlen, sizeof(value)), v);
		int n = status_take(&s, key, value, err);
		if (n < 0)
			return n;
	}
	if (r.failed || jr_end(&r) < 0)
		return jr_error(&r, err);
	*ret = s;
	return 0;
}
