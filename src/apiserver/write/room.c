/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/room.h"

#include "api/instance.h"
#include "apiserver/json/object.h"
#include "apiserver/write/bounds.h"
#include "base/util.h"

/* Nacre's programs and administrators may exceed what a namespace may store. */
static bool may_exceed(const struct request *r, bool create) {
	return bounds_is_program(r, create) || user_in_group(r->user, GROUP_MASTERS);
}

bool room_allows(const struct stage *s, const struct request *r, const json_t *old, const json_t *obj,
                 const struct buf *text, char msg[static QUOTA_MESSAGE_MAX]) {
	const struct route *rt = &r->route;
	const char *name = object_meta_str(obj, "name");
	const size_t was = name ? store_size(s->store, rt->kind_index, rt->ns, name) : 0;
	/* If the name is taken, the create is refused (409) and uses no quota. */
	if (!old && was)
		return true;
	if (!old && rt->kind == &api_kind_instance && !quota_allows(s->quota, rt->ns, text, msg))
		return false;
	return may_exceed(r, !old) || quota_stores(s->quota, rt->kind_index, rt->ns, was, text->len, msg);
}
