/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/write/stage.h"

#include <inttypes.h>

#include "apiserver/auth/escalate.h"
#include "apiserver/auth/restrict.h"
#include "apiserver/json/object.h"
#include "apiserver/json/tree.h"
#include "apiserver/request/reply.h"
#include "apiserver/write/bounds.h"
#include "apiserver/write/finalizers.h"
#include "apiserver/write/quota.h"
#include "apiserver/write/room.h"
#include "apiserver/write/validate.h"
#include "base/util.h"

static int stage_set_version(struct store *st, json_t *obj) {
	char rv[24];
	snprintf(rv, sizeof(rv), "%" PRId64, store_next_version(st));
	return object_set_meta_str(obj, "resourceVersion", rv);
}

static int stage_dump(const struct api_kind *k, const json_t *obj, struct buf *text, struct tree_size *ret_size) {
	_json_decref_ json_t *ordered = object_ordered(k, obj);
	if (!ordered)
		return -ENOMEM;
	*ret_size = tree_dump(text, ordered);
	return text->failed ? -ENOMEM : 0;
}

int stage_check(const struct stage *s, struct request *r, const json_t *old, const json_t *managed, json_t *obj,
                struct buf *ret_text) {
	const struct api_kind *k = r->route.kind;
	struct api_errors errs = {0};
	_buf_free_ struct buf text = {0};

	struct tree_size size;
	int e;
	/* A dry run uses no version. */
	int v = !request_dry_run(r) ? stage_set_version(s->store, obj)
	        : old               ? object_keep_meta(obj, old, "resourceVersion")
	                            : object_set_meta_str(obj, "resourceVersion", NULL);
	if (v < 0 || stage_dump(k, obj, &text, &size) < 0) {
		reply_internal(r, "out of memory");
		return -ENOMEM;
	}
	if ((e = bounds_check_values(r, old, managed, obj, &size)) < 0 ||
	    (e = bounds_check_size(s->store, r, old, obj, text.len)) < 0)
		return e;
	validate_owner_references(obj, &errs);
	bounds_check_managed(r, old, managed, obj, &errs);
	e = validate_object(s->store, r, old, obj, &text, &errs);
	if (errs.n) {
		reply_invalid(r, object_meta_str(obj, "name"), &errs);
		return -EINVAL;
	}
	if (e < 0) {
		reply_internal(r, "out of memory");
		return e;
	}
	if ((e = restrict_write(s->auth, r, old, obj, text.len)) < 0)
		return e;
	char msg[QUOTA_MESSAGE_MAX];
	if (!room_allows(s, r, old, obj, &text, msg)) {
		reply_forbidden(r, object_meta_str(obj, "name"), NULL, "%s", msg);
		return -EDQUOT;
	}
	if ((e = finalizers_check(s->auth->rbac, r, old, obj)) < 0 ||
	    (e = escalate_check(s->auth->rbac, r, old, obj)) < 0)
		return e;
	*ret_text = text;
	text = (struct buf){0};
	return 0;
}

int stage_put_text(const struct stage *s, unsigned kind, const char *ns, const char *name, const struct buf *text) {
	if (quota_stage(s->quota, kind, ns, store_size(s->store, kind, ns, name), text) < 0)
		return -ENOMEM;
	struct blob *b = blob_new(text->data, text->len);
	return b ? store_put(s->store, kind, ns, name, b) : -ENOMEM;
}

static int make_blob(struct store *st, unsigned kind, json_t *obj, struct blob **ret) {
	_buf_free_ struct buf b = {0};
	struct tree_size size;
	if (stage_set_version(st, obj) < 0 || stage_dump(api_kinds[kind], obj, &b, &size) < 0)
		return -ENOMEM;
	*ret = blob_new(b.data, b.len);
	return *ret ? 0 : -ENOMEM;
}

int stage_put(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) {
	struct blob *b;
	int r = make_blob(st, kind, obj, &b);
	return r < 0 ? r : store_put(st, kind, ns, name, b);
}

int stage_remove(struct store *st, unsigned kind, const char *ns, const char *name, json_t *obj) {
	struct blob *b;
	int r = make_blob(st, kind, obj, &b);
	return r < 0 ? r : store_remove(st, kind, ns, name, b);
}
