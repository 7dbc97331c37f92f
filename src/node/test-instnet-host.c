/* SPDX-License-Identifier: Apache-2.0 */

/* clang-format off */
/*
 * The network of one instance without an API, for tests/node. The argument is the prefix of namespaces; the namespace
 * `PREFIXpublic` exists. Each line of the input is a command, and each answer is a line:
 *
 *     N SPEC            makes the network: N slices are open for new connections (0: all), SPEC is the JSON of a struct
 *                       instnet_spec: "changed" if rules or members were changed, "same", or "failed: ..."
 *     firewall OBJECT   attaches a Firewall, or changes it: its "ok", as the others', takes effect with the next network
 *     nofirewall NAME   detaches it
 *     endpoint OBJECT   an Endpoint was added or changed
 *     noendpoint NAME   it was deleted
 *     group NAME        the id of the peers of the first ingress rule of that Firewall
 *     read              what the firewall has counted, as JSON
 */
/* clang-format on */

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "net/netns.h"
#include "node/instnet.h"

#define ID          "0b5ac4a84b0e"
#define OBJECTS_MAX 64

/* The objects of a kind, in order of name. */
struct objects {
	const struct api_kind *kind;
	size_t n;
	void *v[OBJECTS_MAX];
};

struct host {
	const char *prefix;
	struct nl *public_nl;
	int public_fd;
	struct instnet_state state;
	struct nl *netfilter; /* as the agent keeps one (node/internal.h) */
	struct objects firewalls, endpoints;
	struct groups *groups;
};

static const char *name_of(const struct objects *o, const void *obj) {
	return o->kind == &api_kind_firewall ? ((const struct firewall *)obj)->meta.name
	                                     : ((const struct endpoint *)obj)->meta.name;
}

/* Puts OBJ (NULL: nothing) in the place of the object with that name, which the caller frees. */
static void *objects_put(struct objects *o, const char *name, void *obj) {
	size_t at = 0;
	void *old = NULL;

	while (at < o->n && strcmp(name_of(o, o->v[at]), name) < 0)
		at++;
	if (at < o->n && streq(name_of(o, o->v[at]), name)) {
		old = o->v[at];
		memmove(&o->v[at], &o->v[at + 1], (--o->n - at) * sizeof(o->v[0]));
	}
	if (obj && o->n < OBJECTS_MAX) {
		memmove(&o->v[at + 1], &o->v[at], (o->n++ - at) * sizeof(o->v[0]));
		o->v[at] = obj;
	}
	return old;
}

static int host_object(struct host *h, struct objects *o, const char *json, struct error *err) {
	struct api_errors errs = {0};
	void *obj = NULL, *old;
	int r = api_parse(o->kind, json, strlen(json), &obj, &errs);

	if (r < 0) {
		api_errors_to_error(&errs, err);
		return r;
	}
	old = objects_put(o, name_of(o, obj), obj);
	if (o == &h->endpoints)
		groups_endpoint(h->groups, old, obj);
	api_free(o->kind, old);
	return 0;
}

static void host_remove(struct host *h, struct objects *o, const char *name) {
	void *old = objects_put(o, name, NULL);

	if (o == &h->endpoints)
		groups_endpoint(h->groups, old, NULL);
	api_free(o->kind, old);
}

static int spec_read(const char *text, struct instnet_spec *ret, struct error *err) {
	_cleanup_(jr_done) struct jr r;

	jr_init(&r, text, strlen(text));
	jt_init(&jt_instnet_spec, ret);
	return jt_read(&jt_instnet_spec, &r, ret, err);
}

static int host_keep_socket(struct host *h, struct error *err) {
	char name[INSTNET_NAME_MAX];
	_close_ int fd = -1;
	int r = netns_open(instnet_netns(h->prefix, ID, name), &fd, err);

	return r < 0 ? r : nl_open_netfilter(&h->netfilter, fd, err);
}

static int host_apply(struct host *h, char *line, struct error *err) {
	const struct firewall *v[OBJECTS_MAX];
	const struct firewall_attached attached = {.v = v, .n = h->firewalls.n, .groups = h->groups};
	struct instnet_spec spec;
	char *rest;
	struct instnet_config c = {.prefix = h->prefix,
	                           .id = ID,
	                           .spec = &spec,
	                           .firewalls = &attached,
	                           .netfilter = h->netfilter,
	                           .open_slices = strtoul(line, &rest, 10),
	                           .mtu = 1500};
	int r = spec_read(rest, &spec, err);

	for (size_t i = 0; i < h->firewalls.n; i++)
		v[i] = h->firewalls.v[i];
	if (r >= 0)
		r = instnet_ensure(&c, h->public_nl, h->public_fd, &h->state, err);
	return r < 0 || h->netfilter ? r : host_keep_socket(h, err);
}

static int host_group(const struct host *h, const char *name, struct error *err) {
	char id[FIREWALL_GROUP_ID_MAX] = "";

	for (size_t i = 0; i < h->firewalls.n; i++) {
		const struct firewall *f = h->firewalls.v[i];
		if (streq(f->meta.name, name) && firewall_group_id(f->meta.ns, f->spec->ingress.v[0].peers, id) < 0)
			return error_oom(err);
	}
	puts(id);
	return 0;
}

static int host_read(const struct host *h, struct error *err) {
	char name[INSTNET_NAME_MAX], address[ADDR_STR_MAX];
	struct firewall_seen *seen = calloc(1, sizeof(*seen));
	_close_ int fd = -1;
	int r = seen ? netns_open(instnet_netns(h->prefix, ID, name), &fd, err) : error_oom(err);

	if (r >= 0)
		r = firewall_read(fd, &h->state.firewall, true, seen, err);
	if (r >= 0) {
		printf("{\"in\": %llu, \"out\": %llu, \"rules\": [", (unsigned long long)seen->dropped_in,
		       (unsigned long long)seen->dropped_out);
		for (size_t i = 0; i < seen->n_counts; i++)
			printf("%s[%d, \"%s\", %u, %llu]", i ? ", " : "", seen->counts[i].firewall,
			       seen->counts[i].out ? "out" : "in", seen->counts[i].rule,
			       (unsigned long long)seen->counts[i].packets);
		printf("], \"drops\": [");
		for (size_t i = 0; i < seen->n_drops; i++)
			printf("%s[\"%s\", \"%s\", %d, %d, %llu, %u]", i ? ", " : "", seen->drops[i].out ? "out" : "in",
			       addr_str(&seen->drops[i].addr, address), seen->drops[i].protocol, seen->drops[i].port,
			       (unsigned long long)seen->drops[i].packets, seen->drops[i].age_ms);
		printf("]}\n");
		firewall_seen_done(seen);
	}
	free(seen);
	return r;
}

/* 0: the answer has been printed; 1: the answer is "ok". */
static int host_command(struct host *h, char *line, struct error *err) {
	line[strcspn(line, "\n")] = 0;
	char *rest = strchr(line, ' ') ? strchr(line, ' ') + 1 : line;
	struct objects *o = strstr(line, "endpoint ") ? &h->endpoints : &h->firewalls;

	if (starts_with(line, "firewall ") || starts_with(line, "endpoint ")) {
		int r = host_object(h, o, rest, err);
		return r < 0 ? r : 1;
	}
	if (starts_with(line, "nofirewall ") || starts_with(line, "noendpoint ")) {
		host_remove(h, o, rest);
		return 1;
	}
	if (starts_with(line, "group "))
		return host_group(h, rest, err);
	if (streq(line, "read"))
		return host_read(h, err);
	const struct instnet_state before = h->state;
	int r = host_apply(h, line, err);
	if (r >= 0)
		puts(memcmp(&h->state, &before, sizeof(before)) == 0 ? "same" : "changed");
	return r;
}

int main(int argc, char **argv) {
	_free_ char *public_name = argc == 2 ? strf("%spublic", argv[1]) : NULL, *line = NULL;
	struct host h = {.prefix = argv[1],
	                 .public_fd = -1,
	                 .firewalls = {.kind = &api_kind_firewall},
	                 .endpoints = {.kind = &api_kind_endpoint}};
	struct error err = {0};
	size_t room = 0;

	if (!public_name || netns_open(public_name, &h.public_fd, &err) < 0 ||
	    nl_open(&h.public_nl, h.public_fd, &err) < 0 || groups_new(&h.groups, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	while (getline(&line, &room, stdin) > 0) {
		int r = host_command(&h, line, &err);
		if (r)
			printf(r < 0 ? "failed: %s\n" : "ok\n", err.msg);
		fflush(stdout);
	}
	while (h.firewalls.n)
		host_remove(&h, &h.firewalls, name_of(&h.firewalls, h.firewalls.v[0]));
	while (h.endpoints.n)
		host_remove(&h, &h.endpoints, name_of(&h.endpoints, h.endpoints.v[0]));
	groups_free(h.groups);
	nl_free(h.netfilter);
	nl_free(h.public_nl);
	close(h.public_fd);
	return 0;
}
