/* SPDX-License-Identifier: Apache-2.0 */

/* Requests that are not about objects: discovery, OpenAPI, health, metrics. */

#include <string.h>

#include "apiserver/discovery.h"
#include "apiserver/handlers.h"
#include "apiserver/openapi.h"
#include "apiserver/reply.h"
#include "base/util.h"

/* Takes JSON: null is 404, NULL out of memory. */
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

static void reply_health(struct server *s, struct request *r) {
	if (s->stopping && streq(r->path, "/readyz"))
		reply_text(&r->reply, 503, "stopping\n");
	else if (s->write_failed.code && streq(r->path, "/readyz"))
		reply_text(&r->reply, 503, s->write_failed.msg);
	else
		reply_text(&r->reply, 200, "ok");
}

static void reply_metrics(struct request *r) {
	_buf_free_ struct buf b = {0};
	metrics_render(&b);
	reply_text(&r->reply, 200, "");
	buf_add(&r->reply.body, b.data, b.len);
	r->reply.content_type = "text/plain; version=0.0.4";
}

void handle_other(struct server *s, struct request *r) {
	const char *p = r->path;
	size_t n = strlen(p);
	/* "/api/" is "/api". */
	if (n > 1 && p[n - 1] == '/')
		r->path[n - 1] = '\0';
	if (!streq(r->method, "GET"))
		reply_method_not_allowed(r);
	else if (streq(p, "/api"))
		r->accept == MEDIA_DISCOVERY ? reply_aggregated(r, true) : reply_tree(r, discovery_core_versions());
	else if (streq(p, "/apis"))
		r->accept == MEDIA_DISCOVERY ? reply_aggregated(r, false) : reply_tree(r, discovery_groups());
	else if (starts_with(p, "/api/"))
		reply_tree(r, discovery_resources("", p + strlen("/api/")));
	else if (starts_with(p, "/apis/"))
		reply_group(r);
	else if (streq(p, "/version"))
		reply_tree(r, discovery_version());
	else if (streq(p, "/healthz") || streq(p, "/livez") || streq(p, "/readyz"))
		reply_health(s, r);
	else if (streq(p, "/metrics"))
		reply_metrics(r);
	else if (starts_with(p, "/openapi/"))
		openapi_handle(r);
	else
		reply_route_not_found(r);
}
