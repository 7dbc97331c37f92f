/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/seed.h"

#include <string.h>

#include "api/addresspool.h"
#include "api/core.h"
#include "api/edgepeer.h"
#include "api/instance.h"
#include "base/util.h"
#include "kube/client.h"

#define GROUP_VERSION "\"apiVersion\":\"nacre.dev/v1alpha1\","

struct seed {
	const struct api_kind *kind;
	const char *ns, *json;
};

/* Prefixes of RFC 3849; the overlay's pool leaves 2001:db8:0:2:: to the edges. */
static const struct seed seeds[] = {
	{&api_kind_namespace, NULL,
         "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"" LAB_TENANT "\"}}"},
	{&api_kind_addresspool, NULL,
         "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"instances\"},"
         "\"spec\":{\"use\":\"instance\",\"prefix\":\"2001:db8:1000::/40\"}}"},
	{&api_kind_addresspool, NULL,
         "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"delegated\"},"
         "\"spec\":{\"use\":\"delegated\",\"prefix\":\"2001:db8:4000::/36\"}}"},
	{&api_kind_addresspool, NULL,
         "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"overlay\"},"
         "\"spec\":{\"use\":\"overlay\",\"prefix\":\"2001:db8:0:1::/64\"}}"},
	{&api_kind_addresspool, NULL,
         "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"macs\"},"
         "\"spec\":{\"use\":\"mac\",\"macPrefix\":\"02:4e:01\"}}"},
	{&api_kind_instancetype, NULL,
         "{" GROUP_VERSION "\"kind\":\"InstanceType\",\"metadata\":{\"name\":\"small\"},"
         "\"spec\":{\"vcpus\":1,\"memoryMiB\":256}}"},
	{&api_kind_image, NULL,
         "{" GROUP_VERSION "\"kind\":\"Image\",\"metadata\":{\"name\":\"lab\"},\"spec\":{\"kernel\":"
         "{\"kernel\":\"vmlinuz\",\"initrd\":\"initrd\",\"cmdline\":\"console=ttyS0 quiet\"}}}"},
	{&api_kind_instance, LAB_TENANT,
         "{" GROUP_VERSION "\"kind\":\"Instance\",\"metadata\":{\"name\":\"" LAB_INSTANCE
         "\",\"namespace\":\"" LAB_TENANT "\"},\"spec\":{\"type\":\"small\",\"image\":\"lab\","
         "\"ingress\":[{\"protocol\":\"icmp\"},{\"protocol\":\"tcp\",\"port\":80}]}}"},
};

struct session {
	sd_event *loop;
	struct kube_client *client;
};

static void session_close(struct session *s) {
	s->client = kube_client_free(s->client);
	s->loop = sd_event_unref(s->loop);
}

static int session_open(const struct lab *lab, struct session *s, struct error *err) {
	char endpoint[LAB_PATH_MAX + 8];
	snprintf(endpoint, sizeof(endpoint), "unix:%s/api.sock", lab->dir);
	if (sd_event_new(&s->loop) < 0)
		return error_oom(err);
	return kube_client_new(&s->client, s->loop, endpoint, "nacre", err);
}

static int post(struct session *s, const struct api_kind *k, const char *ns, const char *json, struct error *err) {
	_buf_free_ struct buf path = {.max = 1024};
	struct kube_response resp = {0};
	kube_path(&path, k, ns, NULL, NULL);
	int r = buf_error(&path, "path", err);
	if (r < 0)
		return r;
	struct kube_spec spec = {.method = "POST", .path = path.data, .body = json, .len = strlen(json)};
	r = kube_perform(s->client, &spec, &resp);
	if (r == -EEXIST)
		r = 0;
	else if (r < 0)
		error_set(err, r, "create %s: %s", k->kind, resp.err.msg);
	kube_response_clear(&resp);
	return r;
}

static int post_edge_peer(struct session *s, int edge, struct error *err) {
	char json[512];
	snprintf(json, sizeof(json),
	         "{" GROUP_VERSION "\"kind\":\"EdgePeer\",\"metadata\":{\"name\":\"edge%d-internet\"},\"spec\":"
	         "{\"edge\":\"edge%d\",\"interface\":\"wan\",\"localASN\":%d,\"remoteASN\":%d}}",
	         edge, edge, LAB_ASN_EDGE_UPLINK, LAB_ASN_INTERNET);
	return post(s, &api_kind_edgepeer, NULL, json, err);
}

int lab_seed(const struct lab *lab, struct error *err) {
	_cleanup_(session_close) struct session s = {0};
	int r = session_open(lab, &s, err);
	for (int i = 1; r >= 0 && i <= LAB_EDGES; i++)
		r = post_edge_peer(&s, i, err);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(seeds); i++)
		r = post(&s, seeds[i].kind, seeds[i].ns, seeds[i].json, err);
	return r;
}

static void describe(const struct instance *in, struct lab_instance *ret) {
	const struct instance_status *st = in->status;
	struct lab_instance out = {0};
	snprintf(out.uid, sizeof(out.uid), "%s", in->meta.uid ? in->meta.uid : "");
	if (st) {
		out.ready = api_condition_is_true(st->conditions.v, st->conditions.n, "Ready");
		snprintf(out.address, sizeof(out.address), "%s", st->address ? st->address : "");
		snprintf(out.host, sizeof(out.host), "%s", st->host ? st->host : "");
	}
	for (size_t i = 0; st && !out.ready && i < st->conditions.n; i++) {
		const struct api_condition *c = &st->conditions.v[i];
		size_t used = strlen(out.waiting);
		if (!streq(c->status, "True"))
			snprintf(out.waiting + used, sizeof(out.waiting) - used, "%s%s: %s", used ? "; " : "",
			         c->reason, c->message ? c->message : "");
	}
	*ret = out;
}

int lab_instance_get(const struct lab *lab, const char *ns, const char *name, struct lab_instance *ret,
                     struct error *err) {
	_cleanup_(session_close) struct session s = {0};
	_buf_free_ struct buf path = {.max = 1024};
	struct kube_response resp = {0};
	void *obj = NULL;
	int r = session_open(lab, &s, err);
	if (r < 0)
		return r;
	kube_path(&path, &api_kind_instance, ns, name, NULL);
	r = buf_error(&path, "path", err);
	if (r < 0)
		return r;
	struct kube_spec spec = {.method = "GET", .path = path.data, .timeout_ms = 5000};
	r = kube_perform(s.client, &spec, &resp);
	if (r < 0)
		error_set(err, r, "instance %s/%s: %s", ns, name, resp.err.msg);
	else
		r = kube_response_parse(&resp, &api_kind_instance, &obj, err);
	kube_response_clear(&resp);
	if (r < 0)
		return r;
	describe(obj, ret);
	api_free(&api_kind_instance, obj);
	return 0;
}
