/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/kubernetes.h"

#include "api/admission.h"
#include "api/roles.h"
#include "api/schema.h"
#include "base/proc.h"
#include "base/util.h"

#define KUBECTL_MS 60000

int lab_kubernetes_check(const struct lab *lab, struct error *err) {
	static const char *const programs[] = {"kube-apiserver", "etcd", "kubectl"};
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		char path[sizeof(lab->oracle) + 32];
		snprintf(path, sizeof(path), "%s/%s", lab->oracle, programs[i]);
		if (access(path, X_OK) < 0)
			return error_set(err, ENOENT,
			                 "`%s` is missing; build it: tests/oracle/build %s (or name another place with "
			                 "--oracle-dir)",
			                 path, lab->oracle);
	}
	return 0;
}

/* ARGV[0] and ARGV[1] are filled in: kubectl and its option --kubeconfig. */
static int kubectl(const struct lab *lab, const char **argv, const char *input, struct error *err) {
	char program[sizeof(lab->oracle) + 32], path[LAB_PATH_MAX], option[LAB_PATH_MAX + 16];
	snprintf(program, sizeof(program), "%s/kubectl", lab->oracle);
	snprintf(option, sizeof(option), "--kubeconfig=%s", lab_path(lab, path, "kubeconfig"));
	argv[0] = program;
	argv[1] = option;
	struct proc_spec spec = {.argv = argv, .input = input, .timeout_ms = KUBECTL_MS};
	return proc_run(&spec, NULL, err);
}

static int kubernetes_apply(const struct lab *lab, const char *yaml, struct error *err) {
	const char *argv[] = {NULL, NULL, "apply", "--server-side", "-f", "-", NULL};
	return kubectl(lab, argv, yaml, err);
}

int lab_kubernetes_prepare(const struct lab *lab, struct error *err) {
	const char *established[] = {NULL, NULL, "wait", "--for=condition=Established", "crd", "--all", NULL};
	_buf_free_ struct buf yaml = {0};
	int r = api_crds_yaml(&yaml, err);
	buf_puts(&yaml, "---\n");
	if (r >= 0)
		r = roles_yaml(&yaml, err);
	buf_puts(&yaml, "---\n");
	if (r >= 0)
		r = admission_yaml(&yaml, err);
	if (r >= 0)
		r = kubernetes_apply(lab, yaml.data, err);
	return r < 0 ? r : kubectl(lab, established, NULL, err);
}
