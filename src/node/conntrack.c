/* SPDX-License-Identifier: Apache-2.0 */
#include "node/conntrack.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define ENTRY_BYTES 320 /* of the kernel's memory, for each connection */

static int conntrack_read_one(const char *dir, const char *name, int64_t *ret, struct error *err) {
	_free_ char *path = strf("%s/%s", dir, name), *text = NULL;

	if (!path)
		return error_oom(err);
	int r = read_file(path, 64, &text, NULL, err);
	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	r = parse_i64(text, 0, INT32_MAX, ret, err);
	return r < 0 ? error_prefix(err, "%s", path) : 0;
}

int conntrack_read(const char *dir, struct conntrack_limits *ret, struct error *err) {
	struct conntrack_limits l;

	int r = conntrack_read_one(dir, "nf_conntrack_max", &l.max, err);
	if (r >= 0)
		r = conntrack_read_one(dir, "nf_conntrack_buckets", &l.buckets, err);
	if (r < 0)
		return error_prefix(err, "how many connections a guest can have is not known; install "
		                         "deploy/modules-load.d/nacre.conf and deploy/sysctl.d/nacre.conf");
	*ret = l;
	return 0;
}

int conntrack_judge(const struct conntrack_limits *l, struct error *err) {
	if (l->max > CONNTRACK_MAX)
		return error_set(err, ERANGE,
		                 "net.netfilter.nf_conntrack_max is %lld, so each guest can take %lld MiB of the "
		                 "kernel's memory; set it to at most %d (deploy/sysctl.d/nacre.conf has 65536)",
		                 (long long)l->max, (long long)(l->max * ENTRY_BYTES >> 20), CONNTRACK_MAX);
	if (2 * l->max > CONNTRACK_CHAIN * l->buckets)
		return error_set(
			err, ERANGE,
			"net.netfilter.nf_conntrack_buckets is %lld, so one guest with nf_conntrack_max (%lld) "
			"connections makes lookups slow for all guests; set it to at least %lld",
			(long long)l->buckets, (long long)l->max,
			(long long)((2 * l->max + CONNTRACK_CHAIN - 1) / CONNTRACK_CHAIN));
	return 0;
}
