/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/request/request.h"

#include <ctype.h>
#include <string.h>

#include "apiserver/json/object.h"
#include "apiserver/request/reply.h"
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

/* Decodes in place. False: a bad escape, NUL, a control character, or not UTF-8. */
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
	size_t n = 1;
	if (!r->query)
		return 0;
	for (const char *p = r->query; (p = strchr(p, '&')) && n < REQUEST_PARAMS_MAX; p++)
		n++;
	r->params = calloc(n, sizeof(*r->params));
	if (!r->params) {
		reply_internal(r, "out of memory");
		return -ENOMEM;
	}
	for (char *p = strtok_r(r->query, "&", &save); p; p = strtok_r(NULL, "&", &save)) {
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

/*
 * glibc serves a larger struct from its bins instead of the thread's cache, which was measured to cost a tenth of the
 * time of a create.
 */
_Static_assert(sizeof(struct request) <= 1032, "a request is larger than glibc's tcache takes");

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
	else {
		/* "/api/" means "/api". */
		size_t n = strlen(r->path);
		if (n > 1 && r->path[n - 1] == '/')
			r->path[n - 1] = '\0';
		(void)!parse_query(r);
	}
	return TAKE_PTR(r);
}

void held_free(struct held *h) {
	if (h)
		h->free(h);
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
	free(r->params);
	free(r->segments);
	held_free(r->rest);
	selector_free(r->selector);
	free(r->selector_fault);
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
	return v && strcasecmp(v, "false") != 0 && !streq(v, "0");
}

bool request_dry_run(const struct request *r) {
	return streq(request_param(r, "dryRun"), "All");
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
		/*
		 * /openapi/v2 is requested as "….v2@v1.0+protobuf", or as "….v2.v1.0+protobuf", the type of its answer.
		 */
		if (streq(r->path, "/openapi/v2") && type > 47 &&
		    strncmp(p, "application/com.github.proto-openapi.spec.v2", 44) == 0) {
			r->accept = MEDIA_OPENAPI_V2;
			return 0;
		}
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
	/* Health, metrics and OpenAPI v2 have their own types and ignore Accept. */
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

/* A watch is a watch of a list: the parameter `watch` of a request with a name is ignored. */
static enum verb verb_of(const struct request *r, bool named) {
	const char *m = r->method;
	if (streq(m, "GET") || streq(m, "HEAD"))
		return named ? VERB_GET : request_flag(r, "watch") ? VERB_WATCH : VERB_LIST;
	if (streq(m, "POST"))
		return VERB_CREATE;
	if (streq(m, "PUT"))
		return VERB_UPDATE;
	if (streq(m, "PATCH"))
		return VERB_PATCH;
	if (streq(m, "DELETE"))
		return named ? VERB_DELETE : VERB_DELETE_COLLECTION;
	return VERB_NONE;
}

static bool find_kind(struct route *rt) {
	for (unsigned i = 0; api_kinds[i]; i++) {
		const struct api_kind *k = api_kinds[i];
		if (streq(k->group, rt->group) && streq(k->version, rt->version) && streq(k->plural, rt->plural)) {
			rt->kind_index = i;
			rt->kind = k;
			return true;
		}
	}
	return false;
}

/* Finds a review whose path is "PLURAL", or for a subresource "PLURAL/NAME/SUBRESOURCE". N is the number of parts. */
static bool find_review(struct route *rt, size_t n) {
	for (const struct review *v = review_kinds; v->group; v++) {
		bool sub = v->of && n == 3 && streq(v->subresource, rt->subresource) &&
		           streq(v->of->group, rt->group) && streq(v->of->version, rt->version);
		bool top = !v->of && n == 1 && streq(v->group, rt->group) && streq(v->version, rt->version);
		if (!(sub || top) || !streq(v->plural, rt->plural) || v->namespaced != (*rt->ns != '\0'))
			continue;
		rt->review = v;
		rt->verb = VERB_CREATE;
		return !sub || find_kind(rt);
	}
	return false;
}

/* Finds what is served for a path that has N parts from PLURAL on. */
static enum route_fault find_served(struct route *rt, size_t n) {
	const bool named = *rt->name;
	if (find_review(rt, n))
		return rt->asked == VERB_CREATE ? ROUTE_FINE : ROUTE_NO_METHOD;
	rt->crds = streq(rt->group, CRD_GROUP) && streq(rt->version, CRD_VERSION) && streq(rt->plural, CRD_PLURAL) &&
	           !*rt->ns && n <= 2;
	if (rt->crds)
		return rt->asked == VERB_GET || rt->asked == VERB_LIST ? ROUTE_FINE : ROUTE_NO_METHOD;
	if (!find_kind(rt) || n > 3 || (*rt->ns && !rt->kind->namespaced)) {
		rt->kind = NULL;
		return ROUTE_NOT_FOUND;
	}
	rt->status = streq(rt->subresource, "status") && rt->kind->has_status;
	rt->scale = streq(rt->subresource, "scale") && rt->kind->scale;
	if (n == 3 && !rt->status && !rt->scale)
		return ROUTE_NO_SUBRESOURCE;
	const bool replaces = rt->asked == VERB_UPDATE || rt->asked == VERB_PATCH;
	if (replaces && !named)
		return object_has_generation(rt->kind) ? ROUTE_NO_NAME : ROUTE_NO_METHOD;
	if (rt->asked == VERB_NONE || (rt->asked == VERB_CREATE && named) || (n == 3 && rt->asked == VERB_DELETE))
		return ROUTE_NO_METHOD;
	/* A namespaced kind is only listed across namespaces; all else needs a namespace in the path. */
	if (rt->kind->namespaced && !*rt->ns &&
	    (named || rt->asked == VERB_CREATE || rt->asked == VERB_DELETE_COLLECTION)) {
		rt->kind = NULL;
		return ROUTE_NOT_FOUND;
	}
	rt->verb = rt->asked;
	return ROUTE_FINE;
}

/* Splits TEXT at "/" and returns the number of segments. Those past SIZE are counted but not stored. */
static size_t split(char *text, char **seg, size_t size) {
	char *save = NULL;
	size_t n = 0;
	for (char *p = strtok_r(text, "/", &save); p; p = strtok_r(NULL, "/", &save), n++)
		if (n < size)
			seg[n] = p;
	return n;
}

int route_parse(struct request *r) {
	char *parts[8], **seg = parts;
	struct route *rt = &r->route;
	*rt = (struct route){.group = "", .version = "", .plural = "", .ns = "", .name = "", .subresource = ""};
	r->segments = strdup(r->path);
	if (!r->segments) {
		reply_internal(r, "out of memory");
		return -ENOMEM;
	}
	size_t n = split(r->segments, parts, ARRAY_SIZE(parts));
	bool core = n >= 3 && streq(seg[0], "api");
	if (!core && !(n >= 4 && streq(seg[0], "apis")))
		return 0;
	rt->is_resource = true;
	rt->group = core ? "" : seg[1];
	rt->version = seg[core ? 1 : 2];
	seg += core ? 2 : 3;
	n -= core ? 2 : 3;
	/* "namespaces/NS/PLURAL…", but "namespaces/NS/status" is a subresource of the namespace. */
	if (streq(seg[0], "namespaces") && n >= 3 && !streq(seg[2], "status") && !streq(seg[2], "finalize")) {
		rt->ns = seg[1];
		seg += 2;
		n -= 2;
	}
	rt->plural = seg[0];
	rt->name = n > 1 ? seg[1] : "";
	rt->subresource = n > 2 ? seg[2] : "";
	rt->asked = verb_of(r, *rt->name);
	rt->fault = find_served(rt, n);
	if (rt->fault || *rt->name || !rt->kind || rt->verb == VERB_CREATE)
		return 0;
	struct error err;
	int e = selector_parse(rt->kind, request_param(r, "labelSelector"), request_param(r, "fieldSelector"),
	                       &r->selector, &err);
	/* The error is reported only after authorization. */
	if (e == -EINVAL && (r->selector_fault = strdup(err.msg)))
		return 0;
	if (e < 0)
		reply_internal(r, "out of memory");
	return e;
}

int request_check_selector(struct request *r) {
	if (!r->selector_fault)
		return 0;
	reply_bad_request(r, "%s", r->selector_fault);
	return -EINVAL;
}

int route_check(struct request *r) {
	const struct route *rt = &r->route;
	switch (rt->fault) {
	case ROUTE_FINE: return 0;
	case ROUTE_NO_SUBRESOURCE: reply_not_found(r); break;
	case ROUTE_NO_METHOD: reply_method_not_allowed(r); break;
	case ROUTE_NO_NAME: reply_bad_request(r, "name must be provided"); break;
	case ROUTE_NOT_FOUND:
		reply_route_not_found(r);
		/* `kubectl create quota` creates ResourceQuotas, which are not served; name the kind that is. */
		if (!*rt->group && streq(rt->plural, "resourcequotas"))
			reply_status(&r->reply, 404, "NotFound", &(struct status_details){0},
			             "the server could not find the requested resource: use a TenantQuota of "
			             "nacre.dev/v1alpha1");
	}
	return -EINVAL;
}
