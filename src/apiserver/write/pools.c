/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/pools.h"

#include "base/util.h"

void pools_check(const struct store *store, const struct addresspool *pool, struct api_errors *errs) {
	const unsigned kind = api_kind_index(&api_kind_addresspool);
	for (const struct object *o = store_seek(store, kind, "", ""); o; o = store_next(store, kind, o)) {
		struct api_errors ignored = {0};
		void *other;
		if (streq(o->name, pool->meta.name) ||
		    api_parse(&api_kind_addresspool, o->value->data, o->value->len, &other, &ignored) < 0)
			continue;
		bool mac = pool->spec->mac_prefix != NULL;
		if (addresspool_overlaps(pool->spec, ((struct addresspool *)other)->spec))
			api_errors_add(errs, API_INVALID, mac ? "spec.macPrefix" : "spec.prefix",
			               "Invalid value: \"%s\": overlaps AddressPool %s",
			               mac ? pool->spec->mac_prefix : pool->spec->prefix, o->name);
		api_free(&api_kind_addresspool, other);
	}
}
