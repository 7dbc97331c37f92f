/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/owner.h"

#include "api/host.h"
#include "api/instance.h"
#include "base/util.h"

static const struct api_kind *owner_kind(const struct api_object_ref *ref) {
	return streq(ref->kind, "Instance") ? &api_kind_instance : streq(ref->kind, "Host") ? &api_kind_host : NULL;
}

static const char *owner_uid(const struct api_kind *k, const void *obj) {
	return k == &api_kind_instance ? instance_id(obj) : ((const struct api_meta *)obj)->uid;
}

bool owner_is(const struct api_object_ref *ref, const void *obj) {
	return streq(owner_uid(owner_kind(ref), obj), ref->uid);
}

struct owner_question {
	const struct api_kind *kind;
	char uid[64];
	void (*gone)(struct work *w, const char *uid);
};

WORK_THEN_DEFINE(owner_asked, struct owner_question)

static void owner_asked(struct work *w, const struct kube_response *r, const struct owner_question *q) {
	void *owner = NULL;
	if (!work_may_go_on(w) || (r->error == 0 && kube_response_parse(r, q->kind, &owner, NULL) < 0))
		return;
	bool gone = r->error == -ENOENT || (owner && !streq(owner_uid(q->kind, owner), q->uid));
	api_free(q->kind, owner);
	if (gone)
		q->gone(w, q->uid);
}

void owner_check(struct work *w, const struct api_object_ref *ref, void (*gone)(struct work *w, const char *uid)) {
	struct owner_question q = {.kind = ref ? owner_kind(ref) : NULL, .gone = gone};
	if (!q.kind)
		return;
	const void *owner = kube_cache_get(controller_cache(work_controller(w), q.kind), ref->ns, ref->name);
	if (owner && owner_is(ref, owner))
		return;
	snprintf(q.uid, sizeof(q.uid), "%s", ref->uid);
	work_get(w, q.kind, ref->ns, ref->name, owner_asked_then(&q));
}
