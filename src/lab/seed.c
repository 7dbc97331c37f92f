/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/seed.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "api/instance.h"
#include "api/tenantquota.h"
#include "base/util.h"
#include "kube/lease.h"
#include "lab/access.h"

#define GROUP_VERSION "\"apiVersion\":\"nacre.dev/v1alpha1\","

#define PATIENCE_NS (120 * NSEC_PER_SEC)

#define CORE  "/api/v1/namespaces"
#define GROUP "/apis/nacre.dev/v1alpha1/"

struct seed {
	const char *path, *json;
};

#define NAMESPACE(name) \
	{ CORE, "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"" name "\"}}" }
/* Prefixes of RFC 3849 and RFC 5737. The overlay's pool does not contain the addresses of edges and balancers
 * (lab_machine()). What an instance gives back is free at once, so that tests see whether something is left of it. */
static const struct seed seeds[] = {
	NAMESPACE(KUBE_SYSTEM_NS),
	NAMESPACE(LAB_TENANT),
	NAMESPACE(LAB_TENANT_RED),
	NAMESPACE(LAB_TENANT_BLUE),
	{GROUP "addresspools", "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"instances\"},"
                               "\"spec\":{\"use\":\"instance\",\"prefix\":\"2001:db8:1000::/40\"}}"},
	{GROUP "addresspools", "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"delegated\"},"
                               "\"spec\":{\"use\":\"delegated\",\"prefix\":\"2001:db8:4000::/36\"}}"},
	{GROUP "addresspools", "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"overlay\"},"
                               "\"spec\":{\"use\":\"overlay\",\"prefix\":\"2001:db8:0:1::/64\"}}"},
	{GROUP "addresspools", "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"macs\"},"
                               "\"spec\":{\"use\":\"mac\",\"macPrefix\":\"02:4e:01\"}}"},
	{GROUP "addresspools",
         "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"public4\"},"
         "\"spec\":{\"use\":\"dedicated\",\"prefix\":\"203.0.113.0/24\",\"quarantineSeconds\":0}}"},
	{GROUP "instancetypes", "{" GROUP_VERSION "\"kind\":\"InstanceType\",\"metadata\":{\"name\":\"small\"},"
                                "\"spec\":{\"vcpus\":1,\"memoryMiB\":256}}"},
	{GROUP "namespaces/" TENANTQUOTA_DEFAULT_NS "/tenantquotas",
         "{" GROUP_VERSION "\"kind\":\"TenantQuota\",\"metadata\":{\"name\":\"" TENANTQUOTA_DEFAULT
         "\"},\"spec\":{\"instances\":1000,\"vcpus\":2000,\"memoryMiB\":1048576}}"},
	{GROUP "images", "{" GROUP_VERSION "\"kind\":\"Image\",\"metadata\":{\"name\":\"lab\"},\"spec\":{\"kernel\":"
                         "{\"kernel\":\"vmlinuz\",\"initrd\":\"initrd\",\"cmdline\":\"console=ttyS0 quiet\"}}}"},
};

/* Only in a lab with balancers, as its slices work only there. */
static const struct seed shared_pool = {
	GROUP "addresspools", "{" GROUP_VERSION "\"kind\":\"AddressPool\",\"metadata\":{\"name\":\"shared4\"},"
			      "\"spec\":{\"use\":\"shared\",\"prefix\":\"198.51.100.0/24\",\"quarantineSeconds\":0}}"};

/* Only if the lab's directory of images has the disk, which ./dev image debian makes. Debian doesn't fit into the
 * memory of `small`. */
#define DEBIAN_DISK "debian-12.qcow2"
static const struct seed debian_seeds[] = {
	{GROUP "instancetypes", "{" GROUP_VERSION "\"kind\":\"InstanceType\",\"metadata\":{\"name\":\"medium\"},"
                                "\"spec\":{\"vcpus\":1,\"memoryMiB\":1024}}"},
	{GROUP "images",
         "{" GROUP_VERSION "\"kind\":\"Image\",\"metadata\":{\"name\":\"debian-12\"},\"spec\":{\"disk\":"
         "{\"file\":\"" DEBIAN_DISK "\",\"format\":\"qcow2\",\"firmware\":\"uefi\"}}}"},
};

/* The first instance, without and with shared IPv4 addresses. */
#define FIRST_INSTANCE(more)                                                                                        \
	{                                                                                                           \
		GROUP "namespaces/" LAB_TENANT "/instances",                                                        \
			"{" GROUP_VERSION "\"kind\":\"Instance\",\"metadata\":{\"name\":\"" LAB_INSTANCE            \
			"\",\"namespace\":\"" LAB_TENANT "\"},\"spec\":{\"type\":\"small\",\"image\":\"lab\"," more \
			"\"ingress\":[{\"protocol\":\"icmp\"},{\"protocol\":\"tcp\",\"port\":80}]}}"                \
	}
static const struct seed instances[] = {
	FIRST_INSTANCE(""),
	FIRST_INSTANCE("\"forwards\":[{\"protocol\":\"tcp\",\"targetPort\":80}],"),
};

static int post(struct lab_api *a, const char *path, const char *json, struct error *err) {
	struct kube_spec spec = {.method = "POST", .path = path, .body = json, .len = strlen(json)};
	uint64_t deadline = now_monotonic_ns() + PATIENCE_NS;
	for (;;) {
		struct kube_response resp = {0};
		int r = kube_perform(a->client, &spec, &resp);
		/* A kube-apiserver that has just received its CRDs may be busy. */
		bool again = kube_response_retriable(&resp) && now_monotonic_ns() < deadline;
		if (r == -EEXIST)
			r = 0;
		else if (r < 0 && !again)
			error_set(err, r, "POST %s: %s", path, resp.err.msg);
		kube_response_clear(&resp);
		if (r == 0 || !again)
			return r;
		usleep(200000);
	}
}

static int post_edge_peer(struct lab_api *a, int edge, struct error *err) {
	char json[512];
	snprintf(json, sizeof(json),
	         "{" GROUP_VERSION "\"kind\":\"EdgePeer\",\"metadata\":{\"name\":\"edge%d-internet\"},\"spec\":"
	         "{\"edge\":\"edge%d\",\"interface\":\"wan\",\"localASN\":%d,\"remoteASN\":%d,"
	         "\"passwordFile\":\"internet\",\"ttlSecurity\":true}}",
	         edge, edge, LAB_ASN_EDGE_UPLINK, LAB_ASN_INTERNET);
	return post(a, GROUP "edgepeers", json, err);
}

#define RBAC "rbac.authorization.k8s.io"

/* Gives the user TENANT the role ROLE in the namespace TENANT. */
static int post_binding(struct lab_api *a, const char *tenant, const char *role, struct error *err) {
	char path[128], json[640];
	snprintf(path, sizeof(path), "/apis/" RBAC "/v1/namespaces/%s/rolebindings", tenant);
	snprintf(json, sizeof(json),
	         "{\"apiVersion\":\"" RBAC "/v1\",\"kind\":\"RoleBinding\",\"metadata\":{\"name\":\"tenant-%2$s\","
	         "\"namespace\":\"%1$s\"},\"roleRef\":{\"apiGroup\":\"" RBAC "\",\"kind\":\"ClusterRole\","
	         "\"name\":\"%2$s\"},\"subjects\":[{\"apiGroup\":\"" RBAC "\",\"kind\":\"User\",\"name\":\"%1$s\"}]}",
	         tenant, role);
	return post(a, path, json, err);
}

static int post_tenant(struct lab_api *a, const struct lab *lab, const char *tenant, struct error *err) {
	/* A kube-controller-manager would aggregate these roles into `admin`. */
	static const char *const parts[] = {"system:aggregate-to-admin", "system:aggregate-to-edit",
	                                    "system:aggregate-to-view", "nacre:edit", "nacre:view"};
	int r = post_binding(a, tenant, "admin", err);
	for (size_t i = 0; r >= 0 && lab->kubernetes && i < ARRAY_SIZE(parts); i++)
		r = post_binding(a, tenant, parts[i], err);
	return r;
}

static int post_debian(struct lab_api *a, const struct lab *lab, struct error *err) {
	char disk[sizeof(lab->images) + sizeof("/" DEBIAN_DISK)];
	int r = 0;
	snprintf(disk, sizeof(disk), "%s/" DEBIAN_DISK, lab->images);
	if (access(disk, R_OK) < 0)
		return 0;
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(debian_seeds); i++)
		r = post(a, debian_seeds[i].path, debian_seeds[i].json, err);
	return r;
}

int lab_seed(const struct lab *lab, struct error *err) {
	_lab_api_ struct lab_api a = {0};
	int r = lab_api_open(lab, &a, err);
	for (int i = 1; r >= 0 && i <= LAB_EDGES; i++)
		r = post_edge_peer(&a, i, err);
	if (r >= 0 && lab->balancers)
		r = post(&a, shared_pool.path, shared_pool.json, err);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(seeds); i++)
		r = post(&a, seeds[i].path, seeds[i].json, err);
	if (r >= 0)
		r = post_debian(&a, lab, err);
	if (r >= 0)
		r = post(&a, instances[lab->balancers > 0].path, instances[lab->balancers > 0].json, err);
	if (r >= 0)
		r = post_tenant(&a, lab, LAB_TENANT_RED, err);
	return r < 0 ? r : post_tenant(&a, lab, LAB_TENANT_BLUE, err);
}

static void seed_describe(const struct instance *in, struct lab_instance *ret) {
	const struct instance_status *st = in->status;
	struct lab_instance out = {0};
	snprintf(out.id, sizeof(out.id), "%s", instance_id(in) ? instance_id(in) : "");
	if (st) {
		out.ready = api_condition_is_true(st->conditions.v, st->conditions.n, "Ready");
		snprintf(out.address, sizeof(out.address), "%s", st->address ? st->address : "");
		snprintf(out.host, sizeof(out.host), "%s", st->host ? st->host : "");
	}
	if (st && st->forwards.n) {
		const struct instance_forwarded *f = &st->forwards.v[0];
		snprintf(out.forward, sizeof(out.forward), "%s:%" PRId64, f->address, f->port.v);
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
	_lab_api_ struct lab_api a = {0};
	_buf_free_ struct buf path = {.max = 1024};
	struct kube_response resp = {0};
	void *obj = NULL;
	int r = lab_api_open(lab, &a, err);
	if (r < 0)
		return r;
	kube_path(&path, &api_kind_instance, ns, name, NULL);
	r = buf_error(&path, "path", err);
	if (r < 0)
		return r;
	struct kube_spec spec = {.method = "GET", .path = path.data, .timeout_ms = 5000};
	r = kube_perform(a.client, &spec, &resp);
	if (r < 0)
		error_set(err, r, "instance %s/%s: %s", ns, name, resp.err.msg);
	else
		r = kube_response_parse(&resp, &api_kind_instance, &obj, err);
	kube_response_clear(&resp);
	if (r < 0)
		return r;
	seed_describe(obj, ret);
	api_free(&api_kind_instance, obj);
	return 0;
}
