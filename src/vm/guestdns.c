/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/guestdns.h"

#include "base/util.h"

size_t guestdns_servers6(const struct vm_config *c, struct in6_addr out[static VM_DNS_MAX]) {
	size_t n = 0;

	for (size_t i = 0; i < c->n_dns; i++)
		if (c->dns[i].address.family == AF_INET6)
			out[n++] = c->dns[i].address.v6;
	return n;
}

/* Whether an earlier name is the same. */
static bool is_repeated(const struct vm_config *c, size_t at) {
	for (size_t i = 0; i < at; i++)
		if (streq(c->search[i].domain, c->search[at].domain))
			return true;
	return streq(c->domain, c->search[at].domain);
}

size_t guestdns_search(const struct vm_config *c, uint8_t *out, size_t room) {
	size_t n = c->domain[0] ? dnsname_put(c->domain, out, room) : 0;

	for (size_t i = 0; i < c->n_search; i++)
		if (!is_repeated(c, i))
			n += dnsname_put(c->search[i].domain, out + n, room - n);
	return n;
}
