/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/access.h"

#include "base/pki.h"
#include "base/util.h"

/* Issues a server certificate as DIR/pki/FILE.crt and .key, for users of keys that read no kubeconfig. */
static int access_issue(const struct lab *lab, const char *file, const char *name, const char *const *names,
                        size_t n_names, struct error *err) {
	char dir[LAB_PATH_MAX], prefix[LAB_PATH_MAX];
	struct pki_request rq = {.name = name, .names = names, .n_names = n_names, .server = true};
	return pki_issue_files(lab_path(lab, dir, "pki"), &rq, lab_path(lab, prefix, "pki/%s", file), err);
}

/* Writes a kubeconfig for the user NAME to PATH. GROUP and NS may be NULL. */
static int access_give(const struct lab *lab, const char *path, const char *name, const char *group, const char *ns,
                       struct error *err) {
	char dir[LAB_PATH_MAX], url[LAB_URL_MAX];
	struct pki_request rq = {.name = name, .groups = &group, .n_groups = group ? 1 : 0};
	struct pki_kubeconfig k = {.server = lab_api_url(lab, url), .cluster = lab->name, .ns = ns};
	return pki_kubeconfig_file(lab_path(lab, dir, "pki"), &rq, k, path, err);
}

static int give_person(const struct lab *lab, const char *file, const char *name, const char *group, const char *ns,
                       struct error *err) {
	char path[LAB_PATH_MAX];
	const char *uid = getenv("SUDO_UID");
	int64_t owner;
	int r = access_give(lab, lab_path(lab, path, "%s", file), name, group, ns, err);
	if (r < 0 || !uid || parse_i64(uid, 0, INT32_MAX, &owner, NULL) < 0)
		return r;
	return chown(path, (uid_t)owner, (gid_t)-1) < 0 ? error_errno(err, errno, "chown `%s`", path) : 0;
}

static int give_programs(const struct lab *lab, struct error *err) {
	char path[LAB_PATH_MAX], name[64];
	int r = access_give(lab, lab_path(lab, path, "pki/controller.kubeconfig"), "system:nacre:controller", NULL,
	                    NULL, err);
	for (int i = 0; r >= 0 && i < lab_machines(lab); i++) {
		struct lab_machine m;
		lab_machine(lab, i, &m);
		snprintf(name, sizeof(name), "%s%s", m.agent->user_prefix, m.name);
		r = access_give(lab, lab_path(lab, path, "pki/%s.kubeconfig", m.name), name, m.agent->group, NULL, err);
	}
	return r;
}

int lab_access_make(const struct lab *lab, struct error *err) {
	char dir[LAB_PATH_MAX], text[ADDR_STR_MAX], authority[64];
	struct addr a = lab_mgmt_address(lab, LAB_MGMT_API);
	const char *names[] = {addr_str(&a, text), "localhost"};
	snprintf(authority, sizeof(authority), "nacre lab %s", lab->name);
	int r = pki_init(lab_path(lab, dir, "pki"), authority, err);
	if (r >= 0)
		r = access_issue(lab, "server", "nacre-apiserver", names, ARRAY_SIZE(names), err);
	/* Its key signs the tokens of service accounts; the certificate is only used to check them. */
	if (r >= 0 && lab->kubernetes)
		r = access_issue(lab, "sa", "service-accounts", names + 1, 1, err);
	if (r >= 0)
		r = give_person(lab, "kubeconfig", "operator", "system:masters", NULL, err);
	if (r >= 0)
		r = give_person(lab, LAB_TENANT_RED ".kubeconfig", LAB_TENANT_RED, NULL, LAB_TENANT_RED, err);
	if (r >= 0)
		r = give_person(lab, LAB_TENANT_BLUE ".kubeconfig", LAB_TENANT_BLUE, NULL, LAB_TENANT_BLUE, err);
	return r < 0 ? r : give_programs(lab, err);
}

int lab_api_open(const struct lab *lab, struct lab_api *ret, struct error *err) {
	char path[LAB_PATH_MAX];
	struct kube_access access = {.kubeconfig = lab_path(lab, path, "kubeconfig")};
	struct lab_api a = {0};
	if (sd_event_new(&a.loop) < 0)
		return error_oom(err);
	int r = kube_client_open(&a.client, a.loop, &access, "nacre", err);
	if (r < 0) {
		lab_api_close(&a);
		return r;
	}
	*ret = a;
	return 0;
}

void lab_api_close(struct lab_api *a) {
	a->client = kube_client_free(a->client);
	a->loop = sd_event_unref(a->loop);
}
