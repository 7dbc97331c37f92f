/* SPDX-License-Identifier: Apache-2.0 */
#include "api/admission.h"

#include <stdarg.h>
#include <string.h>

#include "api/agents.h"
#include "api/roles.h"
#include "base/util.h"

#define WIDTH 120

static const char agents_begin[] =
	"# Made by `nacre admission` for a kube-apiserver: limits agents to their own host, where RBAC can't, keeps "
	"Nacre's\n"
	"# finalizers on its objects, and checks the prefixes of Firewalls:\n"
	"#   kubectl apply --server-side -f deploy/crds.yaml -f deploy/rbac.yaml -f deploy/admission.yaml\n"
	"# nacre-apiserver has these rules built in and needs none of this.\n"
	"---\n"
	"apiVersion: admissionregistration.k8s.io/v1\n"
	"kind: ValidatingAdmissionPolicy\n"
	"metadata:\n"
	"  name: agents.nacre.dev\n"
	"spec:\n"
	"  failurePolicy: Fail\n"
	"  matchConstraints:\n"
	"    resourceRules:\n"
	"    - apiGroups: [\"*\"]\n"
	"      apiVersions: [\"*\"]\n"
	"      operations: [\"*\"]\n"
	"      resources: [\"*/*\"]\n"
	"  matchConditions:\n"
	"  - name: agent\n"
	"    expression: >-\n"
	"      !('system:masters' in request.userInfo.groups) &&\n";

static const char finalizers[] =
	"---\n"
	"# A user may remove Nacre's finalizers if he has the verb `update` for the kind's subresource finalizers, as\n"
	"# nacre-controller has.\n"
	"apiVersion: admissionregistration.k8s.io/v1\n"
	"kind: ValidatingAdmissionPolicy\n"
	"metadata:\n"
	"  name: finalizers.nacre.dev\n"
	"spec:\n"
	"  failurePolicy: Fail\n"
	"  matchConstraints:\n"
	"    resourceRules:\n"
	"    - apiGroups: [nacre.dev]\n"
	"      apiVersions: [\"*\"]\n"
	"      operations: [UPDATE]\n"
	"      resources: [\"*\"]\n"
	"  matchConditions:\n"
	"  - name: taken-away\n"
	"    expression: >-\n"
	"      has(oldObject.metadata.finalizers) && oldObject.metadata.finalizers.exists(f, "
	"f.startsWith('nacre.dev/') &&\n"
	"      !(has(object.metadata.finalizers) && f in object.metadata.finalizers))\n"
	"  validations:\n"
	"  - expression: >-\n"
	"      authorizer.group('nacre.dev').resource(request.resource.resource).subresource('finalizers')\n"
	"      .namespace(has(request.namespace) ? request.namespace : "
	"'').name(request.name).check('update').allowed()\n"
	"    messageExpression: >-\n"
	"      \"metadata.finalizers: those of nacre.dev may not be removed: nacre-controller removes them when "
	"the object is \" +\n"
	"      \"deleted and nothing of it is left; include the finalizer in the object, or patch what you want to "
	"change (user \" +\n"
	"      request.userInfo.username + \" may not update \" + request.resource.resource + \"/finalizers)\"\n"
	"    reason: Forbidden\n";

/*
 * The cost of these expressions grows with the prefixes that a Firewall has. In a CRD it would be estimated from the
 * bounds of its lists, and be too high.
 */
static const char firewalls[] =
	"---\n"
	"# What the schema of Firewall can't say about the prefixes of its rules.\n"
	"apiVersion: admissionregistration.k8s.io/v1\n"
	"kind: ValidatingAdmissionPolicy\n"
	"metadata:\n"
	"  name: firewalls.nacre.dev\n"
	"spec:\n"
	"  failurePolicy: Fail\n"
	"  matchConstraints:\n"
	"    resourceRules:\n"
	"    - apiGroups: [nacre.dev]\n"
	"      apiVersions: [\"*\"]\n"
	"      operations: [CREATE, UPDATE]\n"
	"      resources: [firewalls]\n"
	"  variables:\n"
	"  - name: rules\n"
	"    expression: >-\n"
	"      ((has(object.spec.ingress) ? object.spec.ingress : []) + (has(object.spec.egress) ? object.spec.egress "
	": "
	"[]))\n"
	"      .filter(r, has(r.prefixes))\n"
	"  validations:\n"
	"  - expression: >-\n"
	"      variables.rules.all(r, r.prefixes.all(p, isCIDR(p) && string(cidr(p).masked()) == p))\n"
	"    message: spec.ingress and spec.egress must have prefixes in canonical form, with host bits 0\n"
	"  - expression: >-\n"
	"      variables.rules.all(r, !has(r.protocol) || !(r.protocol in ['icmp', 'icmpv6']) ||\n"
	"      r.prefixes.all(p, p.contains(':') == (r.protocol == 'icmpv6')))\n"
	"    message: rules for protocol icmp must have IPv4 prefixes, and those for icmpv6 IPv6 prefixes\n";

static void binding(struct buf *out, const char *policy) {
	buf_printf(out,
	           "---\n"
	           "apiVersion: admissionregistration.k8s.io/v1\n"
	           "kind: ValidatingAdmissionPolicyBinding\n"
	           "metadata:\n"
	           "  name: %s\n"
	           "spec:\n"
	           "  policyName: %s\n"
	           "  validationActions: [Deny]\n",
	           policy, policy);
}

/* Prints a folded scalar. YAML reads a line break in it as one blank, so TEXT is only broken at blanks. */
static void folded(struct buf *out, const char *key, const char *text) {
	size_t column = WIDTH, n;
	buf_printf(out, "%s: >-", key);
	for (const char *w; (w = access_next_word(&text, &n)); column += n + 1) {
		const bool breaks = column + n + 1 > WIDTH;
		buf_puts(out, breaks ? "\n      " : " ");
		column = breaks ? 5 : column;
		buf_add(out, w, n);
	}
	buf_putc(out, '\n');
}

static void variable(struct buf *out, const char *name, const char *cel) {
	buf_printf(out, "  - name: %s\n", name);
	folded(out, "    expression", cel);
}

/* MESSAGE is the end of the sentence "the agent of HOST …". */
static void validation(struct buf *out, const char *message, const char *fmt, ...) _printf_(3, 4);
static void validation(struct buf *out, const char *message, const char *fmt, ...) {
	_free_ char *text = NULL, *said = strf("'the agent of ' + variables.host + ' %s'", message);
	va_list ap;
	va_start(ap, fmt);
	const int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL; /* vasprintf() says nothing of it then */
	if (!text || !said) {
		out->failed = true;
		return;
	}
	folded(out, "  - expression", text);
	folded(out, "    messageExpression", said);
}

/* ---- lists of what agents may write, as CEL ---- */

static void add_item(struct buf *list, const char *fmt, ...) _printf_(2, 3);
static void add_item(struct buf *list, const char *fmt, ...) {
	_free_ char *item = NULL;
	va_list ap;
	va_start(ap, fmt);
	const int n = vasprintf(&item, fmt, ap);
	va_end(ap);
	if (n < 0) {
		item = NULL;
		list->failed = true;
		return;
	}
	buf_printf(list, "%s'%s'", list->len ? ", " : "", item);
}

/* Sets of kinds, as the policy's variables list them. */
enum about {
	MAY,        /* "nacre.dev/hosts/status:UPDATE" */
	REPORTS,    /* "Host": kinds whose status the agent writes */
	NAMED,      /* kinds of REPORTS whose own object has the name of the agent's Host */
	NAMESPACED, /* kinds of REPORTS that are namespaced */
	SMALL,      /* "nacre.dev/endpoints": kinds with a size limit */
};

static void add_kind(struct buf *list, enum about about, const struct api_kind *k, const struct access_agents *g) {
	switch (about) {
	case MAY:
		if (g->creates)
			add_item(list, "%s/%s:CREATE", k->group, k->plural);
		if (g->updates)
			add_item(list, "%s/%s:UPDATE", k->group, k->plural);
		if (g->deletes)
			add_item(list, "%s/%s:DELETE", k->group, k->plural);
		if (g->status)
			add_item(list, "%s/%s/status:UPDATE", k->group, k->plural);
		return;
	case REPORTS:
		if (g->status)
			add_item(list, "%s", k->kind);
		return;
	case NAMED:
		if (g->status && streq(g->own, "metadata.name") && !g->own_prefix)
			add_item(list, "%s", k->kind);
		return;
	case NAMESPACED:
		if (g->status && k->namespaced)
			add_item(list, "%s", k->kind);
		return;
	case SMALL:
		if (g->max_bytes)
			add_item(list, "%s/%s", k->group, k->plural);
		return;
	}
}

/* Returns ['a', 'b'], which the caller frees; NULL: no memory. */
static char *kinds_list(enum about about, unsigned whose) {
	_buf_free_ struct buf list = {0};
	for (const struct api_kind *const *k = api_kinds; *k; k++) {
		const struct access_agents *g = access_agents(*k, whose);
		if (g)
			add_kind(&list, about, *k, g);
	}
	return list.failed ? NULL : strf("[%s]", list.len ? list.data : "");
}

static char *words_list(const char *words) {
	_buf_free_ struct buf list = {0};
	const char *w;
	for (size_t n; (w = access_next_word(&words, &n));)
		add_item(&list, "%.*s", (int)n, w);
	return list.failed ? NULL : strf("[%s]", list.len ? list.data : "");
}

/*
 * Prints the variable NAME: the value by VALUE for the kind of the agent, as CEL that it returns and the caller frees
 * (NULL: no memory).
 */
static void agents_variable(struct buf *out, const char *name, char *(*value)(const struct agent_kind *k, int arg),
                            int arg) {
	_buf_free_ struct buf map = {0};
	_free_ char *first = value(&agent_kinds[0], arg);
	bool same = true;
	for (const struct agent_kind *k = agent_kinds; k->whose; k++) {
		_free_ char *cel = value(k, arg);
		same = same && streq(cel, first);
		buf_printf(&map, "%s'%s': %s", map.len ? ", " : "{", k->what, cel ? cel : "");
		map.failed |= !cel;
	}
	buf_puts(&map, "}[variables.kind]");
	if (first && !map.failed)
		variable(out, name, same ? first : map.data);
	else
		out->failed = true;
}

static char *kind_list(const struct agent_kind *k, int about) {
	return kinds_list(about, k->whose);
}

static char *kind_prefix(const struct agent_kind *k, _unused_ int arg) {
	return strf("'%s'", k->user_prefix);
}

static char *kind_group(const struct agent_kind *k, _unused_ int arg) {
	return strf("'%s'", k->group);
}

/* ---- the policy about agents ---- */

static void variables(struct buf *out) {
	/* What kind of agent it is, by the name of the user, who must be in the group of that kind. */
	_buf_free_ struct buf kind = {0};
	for (const struct agent_kind *k = agent_kinds + 1; k->whose; k++)
		buf_printf(&kind, "request.userInfo.username.startsWith('%s') ? '%s' : ", k->user_prefix, k->what);
	buf_printf(&kind, "'%s'", agent_kinds[0].what);
	out->failed |= kind.failed;
	variable(out, "kind", kind.failed ? "" : kind.data);
	agents_variable(out, "prefix", kind_prefix, 0);
	agents_variable(out, "group", kind_group, 0);
	variable(out, "host",
	         "request.userInfo.username.startsWith(variables.prefix) && variables.group in "
	         "request.userInfo.groups ? request.userInfo.username.substring(variables.prefix.size()) : ''");
	variable(out, "what",
	         "request.resource.group + '/' + request.resource.resource + "
	         "(has(request.subResource) && request.subResource != '' ? '/' + request.subResource : '')");
	buf_puts(out,
	         "  # What agents may write, the kinds whose status they write, and which of these the rules below "
	         "are about.\n");
	agents_variable(out, "may", kind_list, MAY);
	agents_variable(out, "reports", kind_list, REPORTS);
	agents_variable(out, "named", kind_list, NAMED);
	agents_variable(out, "namespaced", kind_list, NAMESPACED);
	agents_variable(out, "small", kind_list, SMALL);
	buf_puts(out, "  # The old and the new state, where they exist.\n");
	variable(out, "states", "(oldObject == null ? [] : [oldObject]) + (object == null ? [] : [object])");
	buf_puts(out, "  # The members that differ, of the spec or, for the subresource, of the status.\n");
	variable(out, "part", "variables.what.endsWith('/status') ? 'status' : 'spec'");
	variable(out, "before", "oldObject != null && variables.part in oldObject ? oldObject[variables.part] : {}");
	variable(out, "after", "object != null && variables.part in object ? object[variables.part] : {}");
	variable(out, "changed",
	         "variables.after.filter(k, !(k in variables.before) || variables.before[k] != variables.after[k]) + "
	         "variables.before.filter(k, !(k in variables.after))");
}

static void validations_of_all(struct buf *out) {
	buf_puts(out, "  validations:\n");
	folded(out, "  - expression", "variables.host != ''");
	folded(out, "    messageExpression",
	       "'an agent of this name is a user ' + variables.prefix + 'NAME of group ' + variables.group + ', not ' "
	       "+ "
	       "request.userInfo.username");
	folded(out, "  - expression", "variables.what + ':' + request.operation in variables.may");
	folded(out, "    messageExpression",
	       "'agents of ' + variables.kind + 's may not write ' + variables.what + ' (' + request.operation + "
	       "')'");
	validation(out, "may not write labels, annotations, ownerReferences and finalizers: the operator does",
	           "request.operation == 'DELETE' || ['labels', 'annotations', 'ownerReferences', 'finalizers'].all(k, "
	           "(oldObject != null && k in oldObject.metadata) == (k in object.metadata) && "
	           "(!(k in object.metadata) || object.metadata[k] == oldObject.metadata[k]))");
	buf_puts(out, "  # Each field manager that applies has an entry there, without a limit. A tenant may have made "
	              "many.\n");
	validation(out, "may not write under so many field managers",
	           "request.operation == 'DELETE' || !has(object.metadata.managedFields) || "
	           "size(object.metadata.managedFields) <= 16 || "
	           "oldObject != null && has(oldObject.metadata.managedFields) && "
	           "size(object.metadata.managedFields) <= size(oldObject.metadata.managedFields)");
	buf_puts(out, "  # Clients may send managedFields of any size. Those of these kinds name few fields, at most "
	              "three levels deep.\n");
	validation(out, "must send managedFields that name fields of the object, with 4096 characters in all",
	           "!(variables.what in variables.small) || request.operation == 'DELETE' || "
	           "!has(object.metadata.managedFields) || "
	           "object.metadata.managedFields.map(m, !has(m.fieldsV1) ? 0 : m.fieldsV1.map(a, size(a) + "
	           "m.fieldsV1[a].map(b, size(b) + m.fieldsV1[a][b].map(c, size(c) + 4096 * "
	           "size(m.fieldsV1[a][b][c])).sum()).sum()).sum()).sum() <= 4096");
}

/* CEL that is true if the write is not of an object of K (with STATUS: nor of its status). */
static char *is_other(const struct api_kind *k, bool status) {
	return status ? strf("!(variables.what in ['%s/%s', '%s/%s/status'])", k->group, k->plural, k->group, k->plural)
	              : strf("variables.what != '%s/%s'", k->group, k->plural);
}

/* Appends has(o.status) && has(o.status.host) && o.status.host == … */
static void own_test(struct buf *cel, const struct access_agents *g) {
	for (const char *dot = g->own; (dot = strchr(dot, '.')); dot++)
		buf_printf(cel, "has(o.%.*s) && ", (int)(dot - g->own), g->own);
	buf_printf(cel, "has(o.%s) && o.%s == ", g->own, g->own);
	if (g->own_prefix)
		buf_printf(cel, "'%s' + ", g->own_prefix);
	buf_puts(cel, "variables.host");
}

static void own_validation(struct buf *out, const struct api_kind *k, const struct access_agents *g) {
	_buf_free_ struct buf test = {0};
	_free_ char *other = is_other(k, g->status), *message = NULL, *ns = NULL;
	own_test(&test, g);
	message = strf("may write only %ss whose %s is %s%s%s%s", k->kind, g->own, g->own_prefix ? g->own_prefix : "",
	               g->own_prefix ? "NAME" : "the name of its Host", g->ns ? ", in namespace " : "",
	               g->ns ? g->ns : "");
	ns = g->ns ? strf("request.namespace == '%s' && ", g->ns) : strdup("");
	if (!other || !message || !ns || test.failed)
		out->failed = true;
	else
		validation(out, message, "%s || %svariables.states.all(o, %s)", other, ns, test.data);
}

/* OPERATION NULL: for writes of the status. */
static void members_validation(struct buf *out, const struct api_kind *k, const char *words, const char *operation) {
	if (!words || streq(words, "*"))
		return;
	_free_ char *list = words_list(words), *test = NULL, *message = NULL;
	_buf_free_ struct buf names = {0};
	access_print_words(&names, words, "");
	test = !*words ? strdup("size(variables.changed) == 0") : strf("variables.changed.all(k, k in %s)", list);
	message = !*words ? strf("may not change the spec of its %s: the operator does", k->kind)
	                  : strf("may %s only %s in the %s of its %s",
	                         operation && streq(operation, "CREATE") ? "set" : "change", names.data,
	                         operation ? "spec" : "status", k->kind);
	if (!list || !test || !message || names.failed)
		out->failed = true;
	else if (operation)
		validation(out, message, "variables.what != '%s/%s' || request.operation != '%s' || %s", k->group,
		           k->plural, operation, test);
	else
		validation(out, message, "variables.what != '%s/%s/status' || %s", k->group, k->plural, test);
}

static void rule_validation(struct buf *out, const struct api_kind *k, const struct access_agents *g,
                            const struct access_rule *rule) {
	_free_ char *other = is_other(k, g->status);
	_buf_free_ struct buf whose = {0};
	for (const struct agent_kind *a = agent_kinds; rule->whose != g->whose && a->whose; a++)
		if (rule->whose & a->whose)
			add_item(&whose, "%s", a->what);
	if (!other || whose.failed)
		out->failed = true;
	else
		validation(out, rule->says, "%s || request.operation == 'DELETE'%s%s%s || (%s)", other,
		           whose.len ? " || !(variables.kind in [" : "", whose.len ? whose.data : "",
		           whose.len ? "])" : "", rule->cel);
}

static void validations_of_kind(struct buf *out, const struct api_kind *k) {
	const struct access_agents *g = access_agents(k, ACCESS_OF_ALL);
	if (!g || !access_agents_write(g))
		return;
	buf_printf(out, "  # %s\n", k->kind);
	own_validation(out, k, g);
	members_validation(out, k, g->creates, "CREATE");
	members_validation(out, k, g->updates, "UPDATE");
	members_validation(out, k, g->status, NULL);
	for (const struct access_rule *rule = g->rules; rule && rule->whose; rule++)
		if (rule->cel)
			rule_validation(out, k, g, rule);
}

int admission_yaml(struct buf *out, struct error *err) {
	const char *sep = "";
	buf_puts(out, agents_begin);
	buf_puts(out, "      request.userInfo.groups.exists(g, g in [");
	for (const struct agent_kind *k = agent_kinds; k->whose; k++, sep = ", ")
		buf_printf(out, "%s'%s'", sep, k->group);
	buf_puts(out, "])\n  variables:\n");
	variables(out);
	validations_of_all(out);
	for (const struct api_kind *const *k = api_kinds; *k; k++)
		validations_of_kind(out, *k);
	binding(out, "agents.nacre.dev");
	buf_puts(out, finalizers);
	binding(out, "finalizers.nacre.dev");
	buf_puts(out, firewalls);
	binding(out, "firewalls.nacre.dev");
	return buf_error(out, "the admission policies", err);
}
