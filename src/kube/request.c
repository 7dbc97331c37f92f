/* SPDX-License-Identifier: Apache-2.0 */

/* Requests about objects: paths, queries, and the verbs. */

#include <string.h>

#include "api/meta.h"
#include "base/jsonwrite.h"
#include "base/util.h"
#include "kube/client.h"

static void escape(struct buf *out, const char *s) {
	for (; *s; s++) {
		unsigned char ch = (unsigned char)*s;
		if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
		    strchr("-._~", ch))
			buf_putc(out, (char)ch);
		else
			buf_printf(out, "%%%02X", ch);
	}
}

void kube_path(struct buf *out, const struct api_kind *k, const char *ns, const char *name, const char *sub) {
	if (*k->group)
		buf_printf(out, "/apis/%s/%s", k->group, k->version);
	else
		buf_printf(out, "/api/%s", k->version);
	if (k->namespaced && ns && *ns) {
		buf_puts(out, "/namespaces/");
		escape(out, ns);
	}
	buf_printf(out, "/%s", k->plural);
	if (name) {
		buf_putc(out, '/');
		escape(out, name);
	}
	if (sub)
		buf_printf(out, "/%s", sub);
}

void kube_query(struct buf *out, const char *key, const char *value) {
	bool first = !out->data || !strchr(out->data, '?');
	buf_printf(out, "%c%s=", first ? '?' : '&', key);
	escape(out, value);
}

/* Sends METHOD for one object with the given body. */
static int send_object(struct kube_client *c, const char *method, const char *content_type, const struct buf *path,
                       const char *body, size_t len, const struct kube_call *call, struct error *err) {
	int r = buf_error(path, "request path", err);
	if (r < 0)
		return r;
	struct kube_spec spec = {
		.method = method, .path = path->data, .body = body, .len = len, .content_type = content_type};
	return kube_request(c, &spec, call, err);
}

int kube_get(struct kube_client *c, const struct api_kind *k, const char *ns, const char *name,
             const struct kube_call *call, struct error *err) {
	_buf_free_ struct buf path = {0};
	kube_path(&path, k, ns, name, NULL);
	return send_object(c, "GET", NULL, &path, NULL, 0, call, err);
}

static int send_whole(struct kube_client *c, const char *method, const struct api_kind *k, const void *obj,
                      const char *name, const struct kube_call *call, struct error *err) {
	_buf_free_ struct buf path = {0};
	_buf_free_ struct buf body = {0};
	kube_path(&path, k, ((const struct api_meta *)obj)->ns, name, NULL);
	api_print(k, obj, &body);
	int r = buf_error(&body, k->kind, err);
	return r < 0 ? r : send_object(c, method, NULL, &path, body.data, body.len, call, err);
}

int kube_create(struct kube_client *c, const struct api_kind *k, const void *obj, const struct kube_call *call,
                struct error *err) {
	return send_whole(c, "POST", k, obj, NULL, call, err);
}

int kube_update(struct kube_client *c, const struct api_kind *k, const void *obj, const struct kube_call *call,
                struct error *err) {
	return send_whole(c, "PUT", k, obj, ((const struct api_meta *)obj)->name, call, err);
}

int kube_patch(struct kube_client *c, const struct api_kind *k, const char *ns, const char *name, const char *sub,
               enum kube_patch type, const char *json, size_t len, const struct kube_call *call, struct error *err) {
	_buf_free_ struct buf path = {0};
	kube_path(&path, k, ns, name, sub);
	return send_object(c, "PATCH",
	                   type == KUBE_PATCH_MERGE ? "application/merge-patch+json" : "application/json-patch+json",
	                   &path, json, len, call, err);
}

static int send_delete(struct kube_client *c, const struct api_kind *k, const char *ns, const char *name,
                       const char *uid, const char *version, const struct kube_call *call, struct error *err) {
	_buf_free_ struct buf path = {0};
	_buf_free_ struct buf body = {0};
	kube_path(&path, k, ns, name, NULL);
	jw_begin(&body, '{');
	jw_kv_string(&body, "apiVersion", "v1");
	jw_kv_string(&body, "kind", "DeleteOptions");
	if (uid) {
		jw_key(&body, "preconditions");
		jw_begin(&body, '{');
		jw_kv_string(&body, "uid", uid);
		jw_kv_string(&body, "resourceVersion", version);
		jw_end(&body, '}');
	}
	jw_end(&body, '}');
	int r = buf_error(&body, "DeleteOptions", err);
	return r < 0 ? r : send_object(c, "DELETE", NULL, &path, body.data, body.len, call, err);
}

int kube_delete(struct kube_client *c, const struct api_kind *k, const char *ns, const char *name, const char *uid,
                const struct kube_call *call, struct error *err) {
	return send_delete(c, k, ns, name, uid, NULL, call, err);
}

int kube_delete_exact(struct kube_client *c, const struct api_kind *k, const struct api_meta *m,
                      const struct kube_call *call, struct error *err) {
	return send_delete(c, k, m->ns, m->name, m->uid, m->resource_version, call, err);
}

/* ---- status ---- */

static const struct api_field *status_field(const struct api_kind *k) {
	for (size_t i = 0; i < k->desc->n_fields; i++)
		if (streq(k->desc->fields[i].name, "status"))
			return &k->desc->fields[i];
	return NULL;
}

/* Finds the member KEY in the JSON object B; false if it is absent. */
static bool find_member(const struct buf *b, const char *key, size_t key_len, const char **ret, size_t *ret_len) {
	struct jr r;
	const char *k;
	size_t n;
	bool found = false;
	jr_init(&r, b->data, b->len);
	if (jr_object(&r) == 0)
		while (!found && jr_key(&r, &k, &n) == 1) {
			bool hit = n == key_len && memcmp(k, key, n) == 0;
			if (jr_skip(&r, ret, ret_len) < 0)
				break;
			found = hit;
		}
	jr_done(&r);
	return found;
}

/* Appends to PATCH the members of A that B has with another value or lacks (then as null). Returns how many. */
static unsigned diff_members(const struct buf *a, const struct buf *b, bool only_missing, struct buf *patch) {
	struct jr r;
	const char *key, *va, *vb;
	size_t n, la, lb;
	unsigned count = 0;
	jr_init(&r, a->data, a->len);
	if (jr_object(&r) == 0)
		while (jr_key(&r, &key, &n) == 1) {
			char name[128];
			snprintf(name, sizeof(name), "%.*s", (int)MIN(n, sizeof(name) - 1), key);
			if (jr_skip(&r, &va, &la) < 0)
				break;
			bool in_b = find_member(b, name, strlen(name), &vb, &lb);
			if (in_b && (only_missing || (la == lb && memcmp(va, vb, la) == 0)))
				continue;
			jw_key(patch, name);
			if (only_missing)
				jw_null(patch);
			else
				jw_raw(patch, va, la);
			count++;
		}
	jr_done(&r);
	return count;
}

static void kube_request_print_status(const struct api_field *f, const void *obj, struct buf *out) {
	const void *status = *(void *const *)((const char *)obj + f->offset);
	if (status)
		api_print_value(f->sub, status, out);
	else
		buf_puts(out, "{}");
}

int kube_patch_status(struct kube_client *c, const struct api_kind *k, const void *old, const void *new,
                      const struct kube_call *call, struct error *err) {
	const struct api_meta *m = old;
	const struct api_field *f = status_field(k);
	_buf_free_ struct buf a = {0};
	_buf_free_ struct buf b = {0};
	_buf_free_ struct buf patch = {0};
	if (!f)
		return error_set(err, EINVAL, "%s has no status", k->kind);
	kube_request_print_status(f, old, &a);
	kube_request_print_status(f, new, &b);
	int r = buf_error(&a, "status", err);
	if (r == 0)
		r = buf_error(&b, "status", err);
	if (r < 0)
		return r;
	jw_begin(&patch, '{');
	jw_key(&patch, "metadata");
	jw_begin(&patch, '{');
	jw_kv_string(&patch, "uid", m->uid);
	jw_kv_string(&patch, "resourceVersion", m->resource_version);
	jw_end(&patch, '}');
	jw_key(&patch, "status");
	jw_begin(&patch, '{');
	unsigned n = diff_members(&b, &a, false, &patch) + diff_members(&a, &b, true, &patch);
	jw_end(&patch, '}');
	jw_end(&patch, '}');
	if (!n)
		return error_set(err, EALREADY, "%s %s: there is nothing to write, the status is the same", k->kind,
		                 m->name);
	r = buf_error(&patch, "status patch", err);
	return r < 0 ? r
	             : kube_patch(c, k, m->ns, m->name, "status", KUBE_PATCH_MERGE, patch.data, patch.len, call, err);
}
