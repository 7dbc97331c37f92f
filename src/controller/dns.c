/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/dns.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "controller/addresses.h"
#include "kube/index.h"

struct dns {
	struct kube_index *prefixes; /* Allocations of prefixes of instances, by their pool */
};

static const char *dns_pool_of(const void *obj, _unused_ char buf[static KUBE_KEY_MAX]) {
	const struct allocation *al = obj;
	return value_use(al->spec->value) == USE_INSTANCE ? al->spec->pool : NULL;
}

static void dns_free_strings(char **v, size_t n) {
	for (size_t i = 0; v && i < n; i++)
		free(v[i]);
	free(v);
}

/* Replaces the N_TO strings at TO by copies of the N strings of FROM. */
static int dns_copy_strings(char ***to, size_t *n_to, char *const *from, size_t n) {
	char **copy = calloc(n + 1, sizeof(char *));
	bool ok = copy != NULL;
	for (size_t i = 0; ok && i < n; i++)
		ok = (copy[i] = strdup(from[i])) != NULL;
	if (!ok) {
		dns_free_strings(copy, n);
		return -ENOMEM;
	}
	dns_free_strings(*to, *n_to);
	*to = copy;
	*n_to = n;
	return 0;
}

int dns_fill(const struct controller *c, struct instance *n) {
	const struct allocation *al = addresses_owned(addresses_of(c), instance_id(n), USE_INSTANCE);
	const struct addresspool *p =
		al ? kube_cache_get(controller_cache(c, &api_kind_addresspool), NULL, al->spec->pool) : NULL;
	struct instance_status *s = n->status;
	if (!p)
		return 0;
	int r = dns_copy_strings(&s->dns_servers.v, &s->dns_servers.n, p->spec->dns_servers.v, p->spec->dns_servers.n);
	return r < 0 ? r
	             : dns_copy_strings(&s->dns_search.v, &s->dns_search.n, p->spec->dns_search.v,
	                                p->spec->dns_search.n);
}

static bool dns_strings_equal(char *const *a, size_t n, char *const *b, size_t m) {
	bool equal = n == m;
	for (size_t i = 0; equal && i < n; i++)
		equal = streq(a[i], b[i]);
	return equal;
}

static void dns_pool_changed(struct controller *c, const struct kube_change *ch) {
	const struct kube_index *prefixes = ((const struct dns *)concern_state(c, &concern_dns))->prefixes;
	const struct addresspool *now = ch->obj, *old = ch->old;
	const struct allocation *al;
	if (!old || (dns_strings_equal(now->spec->dns_servers.v, now->spec->dns_servers.n, old->spec->dns_servers.v,
	                               old->spec->dns_servers.n) &&
	             dns_strings_equal(now->spec->dns_search.v, now->spec->dns_search.n, old->spec->dns_search.v,
	                               old->spec->dns_search.n)))
		return;
	for (al = kube_index_first(prefixes, ch->name); al; al = kube_index_next(prefixes, ch->name, al)) {
		const struct api_object_ref *o = al->spec->owner;
		if (streq(o->kind, "Instance") && o->ns)
			concern_enqueue(c, &concern_instances, o->ns, o->name);
	}
}

static int dns_open(struct controller *c, _unused_ const struct controller_options *o, void **ret, struct error *err) {
	struct dns *d = calloc(1, sizeof(*d));
	if (!d)
		return error_oom(err);
	*ret = d;
	return kube_index_new(&d->prefixes, controller_cache(c, &api_kind_allocation), dns_pool_of, err);
}

static void dns_close(void *state) {
	struct dns *d = state;
	kube_index_free(d->prefixes);
	free(d);
}

const struct concern concern_dns = {
	.name = "dns",
	.watches = {{.kind = &api_kind_addresspool, .changed = dns_pool_changed}, {.kind = &api_kind_allocation}},
	.open = dns_open,
	.close = dns_close,
};
