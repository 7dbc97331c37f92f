/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/status.h"

#include <dirent.h>
#include <stdio.h>

#include "base/util.h"
#include "lab/daemon.h"
#include "lab/place.h"
#include "lab/routers.h"

static int daemon_status(const struct lab *lab, int i, bool *well, struct error *err) {
	_daemon_ struct lab_daemon d = {0};
	struct error why = {0};
	int r = lab_daemon_get(lab, i, &d, err);
	if (r < 0)
		return r;
	pid_t pid = lab_daemon_pid(&d);
	if (lab_daemon_ready(lab, &d, &why) == 0) {
		printf("%-12s ready       pid %-8d %s\n", d.name, pid, d.log);
	} else {
		printf("%-12s %-11s %s; log: %s\n", d.name, pid ? "NOT READY" : "DOWN", why.msg, d.log);
		*well = false;
	}
	return 0;
}

static void router_status(const struct lab *lab, int i, bool *well) {
	struct error why = {0};
	int up, all;
	if (lab_router_sessions(lab, i, &up, &all, &why) < 0) {
		printf("%-12s DOWN        %s\n", lab_router_name(i), why.msg);
		*well = false;
		return;
	}
	printf("%-12s %-11s %d of %d BGP sessions are up\n", lab_router_name(i), up == all ? "ready" : "NOT READY", up,
	       all);
	*well &= up == all;
}

/* Prints the namespaces that a machine's agent should have created and that are missing. */
static void machine_status(const struct lab *lab, int i, bool *well) {
	static const char *const parts[] = {"", "/underlay", "/public"};
	struct lab_machine m;
	lab_machine(lab, i, &m);
	for (size_t k = 0; k < ARRAY_SIZE(parts); k++) {
		char text[32];
		struct place p;
		struct error why = {0};
		snprintf(text, sizeof(text), "%s%s", m.name, parts[k]);
		if (place_find(lab, text, &p, &why) < 0) {
			printf("%-12s MISSING     %s\n", text, why.msg);
			*well = false;
		}
	}
}

int lab_status(const struct lab *lab, bool *ret_well, struct error *err) {
	bool well = true;
	char url[LAB_URL_MAX];
	char names[LAB_NAMES_MAX];
	printf("lab %s: %s; %s on %s, files in %s\n\n", lab->name, lab_names(lab, names),
	       lab->kubernetes ? "kube-apiserver" : "nacre-apiserver", lab_api_url(lab, url), lab->dir);
	for (int i = 0; i < lab_daemons(lab); i++) {
		int r = daemon_status(lab, i, &well, err);
		if (r < 0)
			return r;
	}
	for (int i = 0; i < LAB_ROUTERS; i++)
		router_status(lab, i, &well);
	for (int i = 0; i < lab_machines(lab); i++)
		machine_status(lab, i, &well);
	printf("\n%s\n", well ? "All is well." : "Something is wrong; `nacre lab restart NAME` restarts a daemon.");
	*ret_well = well;
	return 0;
}

int lab_list(struct error *err) {
	DIR *dir = opendir(LAB_RUN_DIR);
	if (!dir && errno != ENOENT)
		return error_errno(err, errno, "open `%s`", LAB_RUN_DIR);
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (e->d_name[0] != '.')
			printf("%s\n", e->d_name);
	if (dir)
		closedir(dir);
	return 0;
}
