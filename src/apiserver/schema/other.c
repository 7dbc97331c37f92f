/* SPDX-License-Identifier: Apache-2.0 */

#include "apiserver/schema/other.h"

#include <string.h>

#include "apiserver/request/reply.h"
#include "apiserver/schema/discovery.h"
#include "apiserver/schema/openapi.h"
#include "base/metrics.h"
#include "base/util.h"

/* Takes the reference JSON. json_null() is answered with 404; NULL means no memory. */
static void reply_tree(struct request *r, json_t *json) {
	if (!json)
		reply_internal(r, "out of memory");
	else if (json_is_null(json))
		reply_route_not_found(r);
	else
		reply_dom(&r->reply, 200, json);
	json_decref(json);
}

static void reply_aggregated(struct request *r, bool core) {
	reply_tree(r, discovery_aggregated(core));
	if (r->reply.code == 200)
		r->reply.content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
}

/* "/apis/GROUP" or "/apis/GROUP/VERSION" */
static void reply_group(struct request *r) {
	char group[256], version[64];
	const char *p = r->path + strlen("/apis/");
	size_t n = strcspn(p, "/");
	snprintf(group, sizeof(group), "%.*s", (int)MIN(n, sizeof(group) - 1), p);
	p += n + (p[n] == '/');
	snprintf(version, sizeof(version), "%.60s", p);
	reply_tree(r, *version ? discovery_resources(group, version) : discovery_group(group));
}

/*
 * CustomResourceDefinitions never change, so there is nothing to watch. `kubectl wait` needs the selector for a name.
 */
static void reply_crds(struct request *r) {
	static const char by_name[] = "metadata.name=";
	const char *name = r->route.name, *selector = request_param(r, "fieldSelector");
	const struct status_details d = {.name = name, .group = CRD_GROUP, .kind = CRD_PLURAL};
	if (!*name && selector && *selector && !starts_with(selector, by_name))
		reply_bad_request(r, "field label not supported: use metadata.name");
	else if (!*name)
		reply_tree(r, discovery_crds(selector && *selector ? selector + strlen(by_name) : NULL));
	else
		reply_tree(r, discovery_crd(name));
	if (*name && r->reply.code == 404)
		reply_status(&r->reply, 404, "NotFound", &d, "%s.%s \"%s\" not found", d.kind, d.group, name);
}

static bool is_health(const char *path) {
	static const char *const names[] = {"/healthz", "/livez", "/readyz"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *rest = starts_with(path, names[i]) ? path + strlen(names[i]) : NULL;
		if (rest && (!*rest || *rest == '/'))
			return true;
	}
	return false;
}

/* ?exclude=CHECK, any number of times: CHECK is ignored. */
static bool excluded(const struct request *r, const char *check) {
	for (size_t i = 0; i < r->n_params; i++)
		if (streq(r->params[i].key, "exclude") && streq(r->params[i].value, check))
			return true;
	return false;
}

/* "/readyz" or "/readyz/CHECK". The answer lists the checks, line by line, if one failed or with ?verbose. */
static void reply_health(const struct health *health, struct request *r) {
	const struct {
		const char *name, *wrong;
	} checks[] = {
		{"ping", NULL},
		{"database", health->database},
		{"shutdown", health->stopping ? "stopping" : NULL},
	};
	const char *what = r->path + 1, *only = strchr(what, '/');
	const int len = (int)(only ? only - what : (ptrdiff_t)strlen(what));
	const size_t n = starts_with(what, "readyz") ? ARRAY_SIZE(checks) : 1;
	_buf_free_ struct buf b = {.max = 8192};
	bool found = false, failed = false;
	for (size_t i = 0; i < n; i++) {
		const char *wrong = checks[i].wrong;
		if (only && !streq(only + 1, checks[i].name))
			continue;
		found = true;
		if (wrong && excluded(r, checks[i].name))
			wrong = NULL;
		failed |= wrong != NULL;
		buf_printf(&b, "[%c]%s %s%s\n", wrong ? '-' : '+', checks[i].name, wrong ? "failed: " : "ok",
		           wrong ? wrong : "");
	}
	buf_printf(&b, "%.*s check %s\n", len, what, failed ? "failed" : "passed");
	if (!found)
		reply_route_not_found(r);
	else
		reply_text(&r->reply, failed ? 503 : 200, failed || request_param(r, "verbose") ? b.data : "ok");
}

static void reply_metrics(struct request *r) {
	_buf_free_ struct buf b = {0};
	metrics_render(&b);
	reply_text(&r->reply, 200, "");
	buf_add(&r->reply.body, b.data, b.len);
	r->reply.content_type = "text/plain; version=0.0.4";
}

void handle_other(const struct health *health, struct request *r) {
	const char *p = r->path;
	if (!streq(r->method, "GET"))
		reply_method_not_allowed(r);
	else if (streq(p, "/api"))
		r->accept == MEDIA_DISCOVERY ? reply_aggregated(r, true) : reply_tree(r, discovery_core_versions());
	else if (streq(p, "/apis"))
		r->accept == MEDIA_DISCOVERY ? reply_aggregated(r, false) : reply_tree(r, discovery_groups());
	else if (starts_with(p, "/api/"))
		reply_tree(r, discovery_resources("", p + strlen("/api/")));
	else if (r->route.crds)
		reply_crds(r);
	else if (starts_with(p, "/apis/"))
		reply_group(r);
	else if (streq(p, "/version"))
		reply_tree(r, discovery_version());
	else if (streq(p, "/"))
		reply_tree(r, discovery_paths());
	else if (is_health(p))
		reply_health(health, r);
	else if (streq(p, "/metrics"))
		reply_metrics(r);
	else if (starts_with(p, "/openapi/"))
		openapi_handle(r);
	else
		reply_route_not_found(r);
}
