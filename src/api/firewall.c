/* SPDX-License-Identifier: Apache-2.0 */
#include "api/firewall.h"

#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/access.h"
#include "base/inet.h"
#include "base/util.h"

static int check_rule_name(const char *s, struct error *err) {
	if (*s >= 'a' && *s <= 'z' && api_format_label.check(s, NULL) == 0)
		return 0;
	return error_set(err, EINVAL,
	                 "`%.80s` must be at most 63 lower-case letters, digits and `-`, beginning with a letter and "
	                 "ending with a letter or digit",
	                 s);
}

static int check_rule_prefix(const char *s, struct error *err) {
	struct prefix p;
	return prefix_parse(s, &p, err);
}

static const struct api_format api_format_rule_name = {"rule name", "^[a-z]([-a-z0-9]*[a-z0-9])?$", NULL, NULL,
                                                       check_rule_name};
/*
 * A CRD can't say that host bits are 0: by the bounds of its lists a Firewall might have twenty million prefixes, and
 * the rule's estimated cost is too high. The policy firewalls.nacre.dev says it (admission.c).
 */
static const struct api_format api_format_rule_prefix = {"prefix", NULL, "cidr", NULL, check_rule_prefix};
API_ENUM(firewall_protocol, "protocol", "tcp", "udp", "icmp", "icmpv6", "any")
API_ENUM(default_egress, "default", "allow", "deny")
API_DEFINE(firewall_rule, FIREWALL_RULE)
API_DEFINE(firewall_spec, FIREWALL_SPEC)
API_DEFINE(firewall_counter, FIREWALL_COUNTER)
API_DEFINE(firewall_status, FIREWALL_STATUS)
API_DEFINE(firewall, FIREWALL)

bool firewall_denies_egress(const struct firewall *f) {
	return streq(f->spec->default_egress, "deny");
}

const char *firewall_rule_label(const struct firewall_rule *r, size_t index, char out[static FIREWALL_RULE_LABEL_MAX]) {
	if (r->name && *r->name)
		snprintf(out, FIREWALL_RULE_LABEL_MAX, "%s", r->name);
	else
		snprintf(out, FIREWALL_RULE_LABEL_MAX, "%zu", index);
	return out;
}

/* ---- validation ---- */

/* The address family that R is for; AF_UNSPEC: both. */
static int rule_family(const struct firewall_rule *r) {
	return streq(r->protocol, "icmp") ? AF_INET : streq(r->protocol, "icmpv6") ? AF_INET6 : AF_UNSPEC;
}

static void rule_check_prefixes(const struct firewall_rule *r, const char *at, struct api_errors *errs) {
	const int family = rule_family(r);
	for (size_t i = 0; family && i < r->prefixes.n && errs->n < API_ERRORS_MAX; i++) {
		char path[128];
		const bool ip6 = strchr(r->prefixes.v[i], ':') != NULL;
		if (ip6 == (family == AF_INET6))
			continue;
		snprintf(path, sizeof(path), "%.80s.prefixes[%zu]", at, i);
		api_errors_add(errs, API_INVALID, path, "`%.60s` is %s, which %s is not for", r->prefixes.v[i],
		               ip6 ? "IPv6" : "IPv4", r->protocol);
	}
}

static void rule_check(const struct firewall_rule *r, const char *at, struct api_errors *errs) {
	const bool ports = streq(r->protocol, "tcp") || streq(r->protocol, "udp");
	char path[128];
	if (r->port.set && !ports) {
		snprintf(path, sizeof(path), "%.80s.port", at);
		api_errors_add(errs, API_FORBIDDEN, path, "must only be set for protocol tcp and udp");
	}
	snprintf(path, sizeof(path), "%.80s.endPort", at);
	if (r->end_port.set && !r->port.set)
		api_errors_add(errs, API_FORBIDDEN, path, "must only be set together with port");
	else if (r->end_port.set && r->end_port.v < r->port.v)
		api_errors_add(errs, API_INVALID, path, "must not be less than port");
	if (r->icmp_type.set && !rule_family(r)) {
		snprintf(path, sizeof(path), "%.80s.icmpType", at);
		api_errors_add(errs, API_FORBIDDEN, path, "must only be set for protocol icmp and icmpv6");
	}
	rule_check_prefixes(r, at, errs);
	snprintf(path, sizeof(path), "%.80s.peers", at);
	api_selector_check(r->peers, path, errs);
}

static void firewall_check(const void *obj, struct api_errors *errs) {
	const struct firewall *f = obj;
	char path[64];
	api_selector_check(f->spec->instances, "spec.instances", errs);
	for (size_t i = 0; i < f->spec->ingress.n && errs->n < API_ERRORS_MAX; i++) {
		snprintf(path, sizeof(path), "spec.ingress[%zu]", i);
		rule_check(&f->spec->ingress.v[i], path, errs);
	}
	for (size_t i = 0; i < f->spec->egress.n && errs->n < API_ERRORS_MAX; i++) {
		snprintf(path, sizeof(path), "spec.egress[%zu]", i);
		rule_check(&f->spec->egress.v[i], path, errs);
	}
	if (f->spec->egress.n && !firewall_denies_egress(f))
		api_errors_add(errs, API_FORBIDDEN, "spec.egress",
		               "must only be set with defaultEgress deny: without it the rules would have no effect");
}

#define RULE_PORT_CEL  "!has(self.port) || has(self.protocol) && self.protocol in ['tcp', 'udp']"
#define RULE_PORT_RULE "port must only be set for protocol tcp and udp"
#define RULE_END_CEL   "!has(self.endPort) || has(self.port) && self.endPort >= self.port"
#define RULE_END_RULE  "endPort must only be set together with port, and must not be less than port"
#define RULE_TYPE_CEL  "!has(self.icmpType) || has(self.protocol) && self.protocol in ['icmp', 'icmpv6']"
#define RULE_TYPE_RULE "icmpType must only be set for protocol icmp and icmpv6"

static const struct api_rule rules[] = {
	{"spec",
         "!has(self.egress) || size(self.egress) == 0 || has(self.defaultEgress) && self.defaultEgress == 'deny'",
         "egress must only be set with defaultEgress deny: without it the rules would have no effect"},
	{"spec.instances.matchExpressions[]", API_REQUIREMENT_CEL, API_REQUIREMENT_RULE},
	{"spec.ingress[]", RULE_PORT_CEL, RULE_PORT_RULE},
	{"spec.ingress[]", RULE_END_CEL, RULE_END_RULE},
	{"spec.ingress[]", RULE_TYPE_CEL, RULE_TYPE_RULE},
	{"spec.ingress[].peers.matchExpressions[]", API_REQUIREMENT_CEL, API_REQUIREMENT_RULE},
	{"spec.egress[]", RULE_PORT_CEL, RULE_PORT_RULE},
	{"spec.egress[]", RULE_END_CEL, RULE_END_RULE},
	{"spec.egress[]", RULE_TYPE_CEL, RULE_TYPE_RULE},
	{"spec.egress[].peers.matchExpressions[]", API_REQUIREMENT_CEL, API_REQUIREMENT_RULE},
	{0},
};

/* ---- groups ---- */

/* The same for the canonical text of a selector. */
static void group_id_of_text(const struct buf *text, char out[static FIREWALL_GROUP_ID_MAX]) {
	unsigned char sum[32];
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text->data, text->len, sum) < 0)
		abort(); /* the arguments are valid, and without an id a rule would be for other instances */
	for (size_t i = 0; i < ENDPOINT_GROUP_LENGTH; i++)
		out[i] = "0123456789abcdef"[i % 2 ? sum[i / 2] & 15 : sum[i / 2] >> 4];
	out[ENDPOINT_GROUP_LENGTH] = '\0';
}

int firewall_group_id(const char *ns, const struct api_selector *peers, char out[static FIREWALL_GROUP_ID_MAX]) {
	_buf_free_ struct buf text = {0};
	buf_printf(&text, "%s\n", ns);
	api_selector_text(peers, &text);
	if (text.failed)
		return -ENOMEM;
	group_id_of_text(&text, out);
	return 0;
}

/* ---- limits of an instance ---- */

/* The number of aligned blocks of ports that R is for. */
static size_t rule_blocks(const struct firewall_rule *r) {
	uint32_t at = r->port.set ? (uint32_t)r->port.v : 0, end = UINT16_MAX + 1;
	size_t n = 0;
	if (r->port.set)
		end = (r->end_port.set ? (uint32_t)r->end_port.v : at) + 1;
	for (; at < end; n++) {
		uint32_t size = at ? at & -at : UINT16_MAX + 1;
		while (size > end - at)
			size /= 2;
		at += size;
	}
	return n;
}

static size_t rule_elements(const struct firewall_rule *r) {
	const size_t places = r->prefixes.n + (r->peers != NULL),
		     times = (rule_blocks(r) + FIREWALL_BLOCKS - 1) / FIREWALL_BLOCKS;
	return times * (places ? places : rule_family(r) ? 1 : 2);
}

/* The groups of a Firewall while they are collected. */
struct groups {
	struct firewall_group *v;
	size_t n, cap;
};

static int groups_collect(const char *ns, const struct firewall_rule *rules_of, size_t n, struct groups *g,
                          size_t *elements) {
	for (size_t i = 0; i < n; i++) {
		const struct firewall_rule *r = &rules_of[i];
		*elements += rule_elements(r);
		if (!r->peers)
			continue;
		if (g->n == g->cap) {
			size_t cap = g->cap ? 2 * g->cap : 4;
			struct firewall_group *v = reallocarray(g->v, cap, sizeof(*v));
			if (!v)
				return -ENOMEM;
			g->v = v;
			g->cap = cap;
		}
		g->v[g->n].peers = r->peers;
		if (firewall_group_id(ns, r->peers, g->v[g->n].id) < 0)
			return -ENOMEM;
		g->n++;
	}
	return 0;
}

static int group_cmp(const void *a, const void *b) {
	const struct firewall_group *x = a, *y = b;
	return strcmp(x->id, y->id);
}

int firewall_measure(const struct firewall *f, struct firewall_size *ret) {
	struct firewall_size s = {0};
	struct groups g = {0};
	if (groups_collect(f->meta.ns, f->spec->ingress.v, f->spec->ingress.n, &g, &s.ingress) < 0 ||
	    groups_collect(f->meta.ns, f->spec->egress.v, f->spec->egress.n, &g, &s.egress) < 0) {
		free(g.v);
		return -ENOMEM;
	}
	if (g.n)
		qsort(g.v, g.n, sizeof(*g.v), group_cmp);
	for (size_t i = 0; i < g.n; i++)
		if (i == 0 || !streq(g.v[i].id, g.v[s.n_groups - 1].id))
			g.v[s.n_groups++] = g.v[i];
	if (s.n_groups > FIREWALL_GROUPS_MAX) {
		free(g.v);
		g.v = NULL;
	}
	s.groups = g.v;
	*ret = s;
	return 0;
}

void firewall_size_clear(struct firewall_size *s) {
	free(s->groups);
	*s = (struct firewall_size){0};
}

/* What the Firewalls of an instance that fit have together. */
struct firewall_sum {
	size_t ingress, egress, n_groups;
	const char *groups[FIREWALL_GROUPS_MAX];
};

static bool sum_has_group(const struct firewall_sum *sum, const char *id) {
	for (size_t i = 0; i < sum->n_groups; i++)
		if (streq(sum->groups[i], id))
			return true;
	return false;
}

/* The number of different groups of SUM and S. If S has no list of its groups, it has too many by itself. */
static size_t sum_groups_with(const struct firewall_sum *sum, const struct firewall_size *s) {
	size_t n = sum->n_groups;
	if (!s->groups)
		return MAX(n, s->n_groups);
	for (size_t i = 0; i < s->n_groups; i++)
		n += !sum_has_group(sum, s->groups[i].id);
	return n;
}

static void sum_add(struct firewall_sum *sum, const struct firewall_size *s) {
	sum->ingress += s->ingress;
	sum->egress += s->egress;
	for (size_t i = 0; i < s->n_groups; i++)
		if (!sum_has_group(sum, s->groups[i].id))
			sum->groups[sum->n_groups++] = s->groups[i].id;
}

void firewall_judge(const struct firewall_size *const *v, size_t n, struct firewall_verdict *ret) {
	struct firewall_sum sum = {0};
	for (size_t i = FIREWALL_ATTACHED_MAX; i < n; i++)
		ret[i] = (struct firewall_verdict){FIREWALL_OVER_ATTACHED, n};
	for (size_t i = 0; i < MIN(n, (size_t)FIREWALL_ATTACHED_MAX); i++) {
		const size_t ingress = sum.ingress + v[i]->ingress, egress = sum.egress + v[i]->egress;
		const size_t groups = sum_groups_with(&sum, v[i]);
		if (ingress > FIREWALL_ELEMENTS_MAX)
			ret[i] = (struct firewall_verdict){FIREWALL_OVER_INGRESS, ingress};
		else if (egress > FIREWALL_ELEMENTS_MAX)
			ret[i] = (struct firewall_verdict){FIREWALL_OVER_EGRESS, egress};
		else if (groups > FIREWALL_GROUPS_MAX)
			ret[i] = (struct firewall_verdict){FIREWALL_OVER_GROUPS, groups};
		else {
			ret[i] = (struct firewall_verdict){FIREWALL_FITS, 0};
			sum_add(&sum, v[i]);
		}
	}
}

const char *firewall_verdict_message(const struct firewall_verdict *v, char out[static FIREWALL_MESSAGE_MAX]) {
	switch (v->limit) {
	case FIREWALL_FITS: *out = 0; break;
	case FIREWALL_OVER_ATTACHED:
		snprintf(out, FIREWALL_MESSAGE_MAX,
		         "%zu Firewalls select it, and the first %d in order of name are applied; put the rules of "
		         "several into one",
		         v->figure, FIREWALL_ATTACHED_MAX);
		break;
	case FIREWALL_OVER_INGRESS:
	case FIREWALL_OVER_EGRESS:
		snprintf(out, FIREWALL_MESSAGE_MAX,
		         "with it and the Firewalls before it in order of name it has %zu prefixes and peers in %s "
		         "rules "
		         "(some ranges of ports count several times), and the limit is %d; merge rules, or select "
		         "fewer instances",
		         v->figure, v->limit == FIREWALL_OVER_INGRESS ? "ingress" : "egress", FIREWALL_ELEMENTS_MAX);
		break;
	case FIREWALL_OVER_GROUPS:
		snprintf(out, FIREWALL_MESSAGE_MAX,
		         "with it and the Firewalls before it in order of name it has rules with %zu different peers, "
		         "and the limit is %d; give peers a common label",
		         v->figure, FIREWALL_GROUPS_MAX);
		break;
	}
	return out;
}

/* ---- the kind ---- */

static const char *const short_names[] = {"fw", NULL};
static const struct api_column columns[] = {
	{"Instances", "integer", ".status.instances", "Number of instances that it selects.", 0},
	{"Egress", "string", ".spec.defaultEgress", "What the instances may send besides the egress rules.", 0},
	{"Applied", "string", ".status.conditions[?(@.type==\"Applied\")].status",
         "Whether it is applied to all instances that it selects.", 0},
	{"Reason", "string", ".status.conditions[?(@.type==\"Applied\")].reason", "Why.", 1},
	{0},
};

static const struct access_grant grants[] = {
	{ACCESS_CONTROLLER, ".", ACCESS_READ},
	{ACCESS_CONTROLLER, "status", "get update patch"},
	{ACCESS_TENANT_VIEW, ". status", ACCESS_READ},
	{ACCESS_TENANT_EDIT, ".", ACCESS_WRITE},
	{0},
};
static const struct api_access firewall_access = {
	.grants = grants,
	.agents = {.whose = ACCESS_OF_HOST, .sees_all = true, .reads = ACCESS_READ},
};

const struct api_kind api_kind_firewall = {
	.group = "nacre.dev",
	.version = "v1alpha1",
	.kind = "Firewall",
	.plural = "firewalls",
	.singular = "firewall",
	.short_names = short_names,
	.doc = "What the instances that it selects may receive and send. Rules only allow, and all Firewalls that "
	       "select an "
	       "instance add up. Without any, an instance receives what spec.ingress and spec.forwards allow, and "
	       "sends "
	       "everything.",
	.namespaced = true,
	.has_status = true,
	.max_values = FIREWALL_VALUES_MAX,
	.desc = &api_desc_firewall,
	.access = &firewall_access,
	.check = firewall_check,
	.rules = rules,
	.columns = columns,
};
