/* SPDX-License-Identifier: Apache-2.0 */
#include "move/list.h"

#include <string.h>

#include "base/util.h"

#define PAGE "500"

static int list_take(const struct kube_response *resp, const struct api_kind *k,
                     int (*each)(json_t *, void *, struct error *), void *userdata, char **ret_more,
                     struct error *err) {
	json_t *page = json_loadb(resp->body, resp->len, 0, NULL), *items = json_object_get(page, "items"), *obj;
	const char *more = json_string_value(json_object_get(json_object_get(page, "metadata"), "continue"));
	size_t i;
	int r = json_is_array(items) ? 0 : error_set(err, EBADMSG, "list of %s: the answer is not a list", k->plural);
	json_array_foreach(items, i, obj) {
		if (r == 0)
			r = each(obj, userdata, err);
	}
	*ret_more = r == 0 && more && *more ? strdup(more) : NULL;
	if (r == 0 && more && *more && !*ret_more)
		r = error_oom(err);
	json_decref(page);
	return r;
}

int list_all(struct kube_client *c, const struct api_kind *k,
             int (*each)(json_t *obj, void *userdata, struct error *err), void *userdata, struct error *err) {
	_free_ char *more = NULL;
	do {
		_buf_free_ struct buf path = {0};
		struct kube_response resp = {0};
		kube_path(&path, k, NULL, NULL, NULL);
		kube_query(&path, "limit", PAGE);
		if (more)
			kube_query(&path, "continue", more);
		free(more);
		more = NULL;
		int r = buf_error(&path, "request path", err);
		if (r < 0)
			return r;
		struct kube_spec spec = {.method = "GET", .path = path.data, .timeout_ms = 60000};
		r = kube_perform(c, &spec, &resp);
		if (r == 0)
			r = list_take(&resp, k, each, userdata, &more, err);
		else if (r == -ENOENT)
			error_set(
				err, r,
				"%s knows no %s of %s; on a kube-apiserver first apply the CRDs: nacre crds | kubectl "
				"apply --server-side -f -",
				kube_client_server(c), k->plural, *k->group ? k->group : "v1");
		else
			*err = resp.err;
		kube_response_clear(&resp);
		if (r < 0)
			return r;
	} while (more);
	return 0;
}
