/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/request.h"

#include <ctype.h>
#include <string.h>

#include "apiserver/object.h"
#include "apiserver/reply.h"
#include "apiserver/review.h"
#include "base/util.h"

const char *verb_name(enum verb v) {
	static const char *const names[] = {
		[VERB_NONE] = "other",  [VERB_GET] = "get",       [VERB_LIST] = "list",
		[VERB_WATCH] = "watch", [VERB_CREATE] = "create", [VERB_UPDATE] = "update",
		[VERB_PATCH] = "patch", [VERB_DELETE] = "delete", [VERB_DELETE_COLLECTION] = "deletecollection",
	};
	return names[v];
}

static int hex(char c) {
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 32);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place; false for a bad escape, a NUL, a control character, or what is no UTF-8. */
static bool percent_decode(char *s, bool plus_is_space) {
	char *out = s;
	const char *start = s;
	for (; *s; s++) {
		char c = *s;
		if (c == '%') {
			int hi = hex(s[1]), lo = hi < 0 ? -1 : hex(s[2]);
			if (lo < 0)
				return false;
			c = (char)(hi << 4 | lo);
			s += 2;
		} else if (c == '+' && plus_is_space)
			c = ' ';
		if ((unsigned char)c < 0x20 || c == 0x7f)
			return false;
		*out++ = c;
	}
	*out = '\0';
	json_t *text = json_string(start);
	json_decref(text);
	return text != NULL;
}

static int parse_query(struct request *r) {
	char *save = NULL;
	for (char *p = r->query ? strtok_r(r->query, "&", &save) : NULL; p; p = strtok_r(NULL, "&", &save)) {
		char *eq = strchr(p, '=');
		if (eq)
			*eq++ = '\0';
		if (r->n_params == REQUEST_PARAMS_MAX) {
			reply_bad_request(r, "more than %d query parameters", REQUEST_PARAMS_MAX);
			return -EINVAL;
		}
		if (!percent_decode(p, true) || (eq && !percent_decode(eq, true))) {
			reply_bad_request(r, "a query parameter holds a bad escape");
			return -EINVAL;
		}
		r->params[r->n_params++] = (struct param){p, eq ? eq : ""};
	}
	return 0;
}

struct request *request_new(const char *method, const char *target) {
	_cleanup_(cleanup_request) struct request *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->start_ns = now_monotonic_ns();
	r->body.max = REQUEST_BODY_MAX + 1;
	r->method = strdup(method);
	const char *q = strchr(target, '?');
	r->path = strndup(target, q ? (size_t)(q - target) : strlen(target));
	r->query = q ? strdup(q + 1) : NULL;
	if (!r->method || !r->path || (q && !r->query))
		return NULL;
	if (strlen(r->path) > REQUEST_PATH_MAX || r->path[0] != '/' || !percent_decode(r->path, false))
		reply_bad_request(r, "the path of the request is malformed");
	else
		(void)!parse_query(r);
	return TAKE_PTR(r);
}

struct request *request_free(struct request *r) {
	if (!r)
		return NULL;
	reply_clear(&r->reply);
	user_unref(r->user);
	user_unref(r->as);
	user_unref(r->by);
	buf_free(&r->body);
	json_decref(r->json);
	free(r->duplicates);
	free(r->method);
	free(r->path);
	free(r->query);
	free(r->segments);
	free(r->content_type);
	free(r->if_none_match);
	free(r->user_agent);
	free(r);
	return NULL;
}

const char *request_param(const struct request *r, const char *key) {
	for (size_t i = 0; i < r->n_params; i++)
		if (strcmp(r->params[i].key, key) == 0)
			return r->params[i].value;
	return NULL;
}

bool request_flag(const struct request *r, const char *key) {
	const char *v = request_param(r, key);
	return v && (streq(v, "true") || streq(v, "1"));
}

/* True if the media range at P (up to LEN bytes) has the parameter KEY=VALUE. */
static bool has_parameter(const char *p, size_t len, const char *key, const char *value) {
	char want[64], range[256];
	snprintf(want, sizeof(want), ";%s=%s;", key, value);
	size_t n = 0;
	for (size_t i = 0; i < len && n < sizeof(range) - 2; i++)
		if (p[i] != ' ')
			range[n++] = p[i];
	range[n++] = ';';
	range[n] = '\0';
	return strstr(range, want) != NULL;
}

int request_set_accept(struct request *r, const char *value) {
	if (!value || !*value)
		return 0;
	for (const char *p = value; *p;) {
		p += strspn(p, ", ");
		size_t len = strcspn(p, ",");
		size_t type = strcspn(p, ",; ");
		bool as = memmem(p, len, "as=", 3) != NULL;
		if ((type == 16 && strncasecmp(p, "application/json", 16) == 0) ||
		    (type == 13 && strncasecmp(p, "application/*", 13) == 0) ||
		    (type == 3 && strncmp(p, "*/*", 3) == 0)) {
			if (!as) {
				r->accept = MEDIA_JSON;
				return 0;
			}
			if (has_parameter(p, len, "as", "Table") && has_parameter(p, len, "g", "meta.k8s.io") &&
			    (has_parameter(p, len, "v", "v1") || has_parameter(p, len, "v", "v1beta1"))) {
				r->accept = MEDIA_TABLE;
				return 0;
			}
			bool list = has_parameter(p, len, "as", "PartialObjectMetadataList");
			if ((list || has_parameter(p, len, "as", "PartialObjectMetadata")) &&
			    has_parameter(p, len, "g", "meta.k8s.io") && has_parameter(p, len, "v", "v1")) {
				r->accept = list ? MEDIA_PARTIAL_LIST : MEDIA_PARTIAL;
				return 0;
			}
			if (has_parameter(p, len, "as", "APIGroupDiscoveryList") &&
			    has_parameter(p, len, "g", "apidiscovery.k8s.io") && has_parameter(p, len, "v", "v2")) {
				r->accept = MEDIA_DISCOVERY;
				return 0;
			}
		}
		p += len;
	}
	/* Health, metrics and OpenAPI v2 have types of their own; they don't ask. */
	if (!starts_with(r->path, "/api"))
		return 0;
	reply_status(&r->reply, 406, "NotAcceptable", NULL,
	             "only the following media types are accepted: application/json, "
	             "application/json;as=Table;v=v1;g=meta.k8s.io");
	return -EINVAL;
}

int request_set_content_type(struct request *r, const char *value) {
	if (!value)
		return 0;
	r->content_type = strndup(value, strcspn(value, "; "));
	if (!r->content_type) {
		reply_internal(r, "out of memory");
		return -ENOMEM;
	}
	for (char *p = r->content_type; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return 0;
}

static enum verb verb_of(const struct request *r, bool named) {
	const char *m = r->method;
	if (streq(m, "GET") || streq(m, "HEAD")) {
		if (request_flag(r, "watch"))
			return VERB_WATCH;
		return named ? VERB_GET : VERB_LIST;
	}
	if (streq(m, "POST"))
		return named ? VERB_NONE : VERB_CREATE;
	if (streq(m, "PUT"))
		return named ? VERB_UPDATE : VERB_NONE;
	if (streq(m, "PATCH"))
		return named ? VERB_PATCH : VERB_NONE;
	if (streq(m, "DELETE"))
		return named ? VERB_DELETE : VERB_DELETE_COLLECTION;
	return VERB_NONE;
}

static bool find_kind(struct route *rt, const char *group, const char *version, const char *plural) {
	for (unsigned i = 0; api_kinds[i]; i++) {
		const struct api_kind *k = api_kinds[i];
		if (streq(k->group, group) && streq(k->version, version) && streq(k->plural, plural)) {
			rt->kind_index = i;
			rt->kind = k;
			return true;
		}
	}
	return false;
}

/* "PLURAL", or of an object "PLURAL/NAME/SUBRESOURCE". */
static bool find_review(struct route *rt, const char *group, const char *version, char **seg, size_t n) {
	for (const struct review *v = reviews; v->group; v++) {
		bool sub = v->of && n == 3 && streq(v->subresource, seg[2]) && streq(v->of->group, group) &&
		           streq(v->of->version, version);
		bool top = !v->of && n == 1 && streq(v->group, group) && streq(v->version, version);
		if (!(sub || top) || !streq(v->plural, seg[0]) || v->namespaced != (*rt->ns != '\0'))
			continue;
		rt->review = v;
		rt->name = sub ? seg[1] : "";
		return !sub || find_kind(rt, group, version, seg[0]);
	}
	return false;
}

int route_parse(struct request *r) {
	char *seg[10], *save = NULL;
	size_t n = 0;
	size_t i = 0; /* first segment after the version */
	const char *group = "", *version = "";
	struct route rt = {.ns = "", .name = ""};
	free(r->segments);
	r->segments = strdup(r->path);
	if (!r->segments) {
		reply_internal(r, "out of memory");
		return -ENOMEM;
	}
	for (char *p = strtok_r(r->segments, "/", &save); p; p = strtok_r(NULL, "/", &save)) {
		if (n == ARRAY_SIZE(seg))
			goto not_found;
		seg[n++] = p;
	}
	if (n >= 2 && streq(seg[0], "api")) {
		group = "";
		version = seg[1];
		i = 2;
	} else if (n >= 3 && streq(seg[0], "apis")) {
		group = seg[1];
		version = seg[2];
		i = 3;
	} else
		return 0;
	if (i == n)
		return 0; /* the group's own discovery */
	/* "namespaces/NS/PLURAL…", but "namespaces/NS[/status]" is the namespace itself. */
	if (streq(seg[i], "namespaces") && n - i >= 3 &&
	    !(*group == '\0' && n - i == 3 && (streq(seg[i + 2], "status") || streq(seg[i + 2], "finalize")))) {
		rt.ns = seg[i + 1];
		i += 2;
	}
	if (find_review(&rt, group, version, seg + i, n - i)) {
		rt.verb = VERB_CREATE;
		r->route = rt;
		if (streq(r->method, "POST"))
			return 0;
		reply_method_not_allowed(r);
		return -EINVAL;
	}
	if (!find_kind(&rt, group, version, seg[i]) || n - i > 3 || (*rt.ns && !rt.kind->namespaced))
		goto not_found;
	if (n - i >= 2)
		rt.name = seg[i + 1];
	if (n - i == 3) {
		rt.status = streq(seg[i + 2], "status") && rt.kind->has_status;
		rt.scale = streq(seg[i + 2], "scale") && rt.kind->scale;
		if (!rt.status && !rt.scale) {
			r->route = rt;
			reply_not_found(r);
			return -EINVAL;
		}
	}
	rt.verb = verb_of(r, *rt.name);
	r->route = rt;
	if (rt.verb == VERB_NONE && !*rt.name && object_has_generation(rt.kind) &&
	    (streq(r->method, "PUT") || streq(r->method, "PATCH"))) {
		reply_bad_request(r, "name must be provided");
		return -EINVAL;
	}
	if (rt.verb == VERB_NONE || ((rt.status || rt.scale) && rt.verb == VERB_DELETE)) {
		reply_method_not_allowed(r);
		return -EINVAL;
	}
	/* An object of a namespaced kind is only named within a namespace; nor is one made outside of it. */
	if (rt.kind->namespaced && !*rt.ns && (*rt.name || rt.verb == VERB_CREATE || rt.verb == VERB_DELETE_COLLECTION))
		goto not_found;
	return 0;
not_found:
	reply_route_not_found(r);
	/* What `kubectl create quota` makes is not served; say what is. */
	if (n > i && streq(group, "") && streq(seg[i], "resourcequotas"))
		reply_status(&r->reply, 404, "NotFound", &(struct status_details){0},
		             "the server could not find the requested resource: quotas are TenantQuotas of "
		             "nacre.dev/v1alpha1 "
		             "here");
	return -EINVAL;
}
