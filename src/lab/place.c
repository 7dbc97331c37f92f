/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/place.h"

#include <string.h>

#include "base/util.h"
#include "lab/seed.h"
#include "node/instnet.h"

static int use(struct place *p, struct error *err) {
	int fd;
	int r = netns_open(p->name, &fd, err);
	if (r < 0)
		return r;
	close(fd);
	netns_path(p->name, p->netns);
	return 0;
}

/* True for "host1", "host1/public" and the like. */
static bool is_part_of_machine(const struct lab *lab, const char *text) {
	for (int i = 0; i < lab_machines(lab); i++) {
		struct lab_machine m;
		lab_machine(lab, i, &m);
		size_t n = strlen(m.name);
		if (strncmp(text, m.name, n) == 0 &&
		    (!text[n] || streq(text + n, "/underlay") || streq(text + n, "/public")))
			return true;
	}
	return false;
}

static int find_instance(const struct lab *lab, const char *text, struct place *ret, struct error *err) {
	struct lab_instance in;
	char ns[64];
	const char *slash = strchr(text, '/');
	snprintf(ns, sizeof(ns), "%.*s", (int)(slash - text), text);
	int r = lab_instance_get(lab, ns, slash + 1, &in, err);
	if (r < 0)
		return r;
	if (!in.host[0])
		return error_set(err, ENOENT, "instance %s is on no host: %s", text, in.waiting);
	char id[INSTNET_ID_LEN + 1], prefix[LAB_NS_MAX];
	if (!instnet_id(in.id, id))
		return error_set(err, EBADMSG, "instance %s: status.id `%s` is not a UUID", text, in.id);
	snprintf(prefix, sizeof(prefix), "%s%.8s-", lab->prefix, in.host);
	instnet_netns(prefix, id, ret->name);
	return use(ret, err);
}

int place_find(const struct lab *lab, const char *text, struct place *ret, struct error *err) {
	struct place p = {0};
	int r;
	if (streq(text, "internet") || streq(text, "mgmt") || streq(text, "leaf1") || streq(text, "leaf2") ||
	    is_part_of_machine(lab, text)) {
		snprintf(p.name, sizeof(p.name), "%s%s", lab->prefix, text);
		char *slash = strchr(p.name, '/');
		if (slash)
			*slash = '-';
		r = use(&p, err);
	} else if (strchr(text, '/') && strlen(text) < 200) {
		r = find_instance(lab, text, &p, err);
	} else {
		char names[LAB_NAMES_MAX];
		return error_set(err, ENOENT,
		                 "no place `%.64s` in lab `%s`; there are internet, mgmt, leaf1, leaf2, the machines "
		                 "%s, each of them with /underlay and /public, and TENANT/NAME of instances",
		                 text, lab->name, lab_names(lab, names));
	}
	if (r < 0)
		return error_prefix(err, "place `%s` of lab `%s`", text, lab->name);
	*ret = p;
	return 0;
}

int place_exec(const struct place *p, char **argv, struct error *err) {
	size_t n = 0;
	while (argv[n])
		n++;
	_free_ const char **full = calloc(n + 5, sizeof(*full));
	if (!full)
		return error_oom(err);
	full[0] = "ip";
	full[1] = "netns";
	full[2] = "exec";
	full[3] = p->name;
	memcpy(full + 4, argv, n * sizeof(*argv));
	execvp("ip", (char *const *)full);
	return error_errno(err, errno, "run `ip`");
}
