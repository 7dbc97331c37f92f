/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/filter.h"

#include <sys/socket.h>

#include "net/nft.h"

#define RULES_MAX (1U << 20)

static void put_set(const char *name, int family, const struct prefix *prefixes, size_t n, struct buf *b) {
	char text[PREFIX_STR_MAX];
	bool any = false;

	buf_printf(b, "\tset %s {\n\t\ttype %s\n\t\tflags interval\n\t\tauto-merge\n", name,
	           family == AF_INET6 ? "ipv6_addr" : "ipv4_addr");
	for (size_t i = 0; i < n; i++) {
		if (prefixes[i].addr.family != family)
			continue;
		buf_printf(b, "%s%s", any ? ", " : "\t\telements = { ", prefix_str(&prefixes[i], text));
		any = true;
	}
	buf_puts(b, any ? " }\n\t}\n" : "\t}\n");
}

void filter_ruleset(const char *const *uplinks, size_t n_uplinks, const struct prefix *prefixes, size_t n_prefixes,
                    struct buf *out) {
	put_set("own4", AF_INET, prefixes, n_prefixes, out);
	put_set("own6", AF_INET6, prefixes, n_prefixes, out);
	/* Comes before every hook that could reassemble or track packets (priority -400 and later). */
	buf_puts(out, "\tchain uplink {\n\t\ttype filter hook prerouting priority -450; policy accept;\n");
	for (size_t i = 0; i < n_uplinks; i++)
		buf_printf(out,
		           "\t\tiifname \"%s\" ip saddr @own4 counter drop\n"
		           "\t\tiifname \"%s\" ip6 saddr @own6 counter drop\n",
		           uplinks[i], uplinks[i]);
	buf_puts(out, "\t}\n");
}

int filter_ensure(int netns_fd, const char *const *uplinks, size_t n_uplinks, const struct prefix *prefixes,
                  size_t n_prefixes, uint64_t *state, struct error *err) {
	_buf_free_ struct buf rules = {.max = RULES_MAX};

	filter_ruleset(uplinks, n_uplinks, prefixes, n_prefixes, &rules);
	int r = buf_error(&rules, "filter of the uplinks", err);
	const struct nft_table table = {
		.family = "inet", .name = "nacre-edge", .body = rules.data, .cover = "nacre-edge-cover"};
	return r < 0 ? r : nft_ensure_tables(netns_fd, &table, 1, state, NULL, err);
}
