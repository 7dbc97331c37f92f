/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each kind declares who may do what with it, and only in ways that the roles, restrict.c and the policies implement.
 */

#include "api/account.h"
#include "api/admission.h"
#include "api/agents.h"
#include "api/core.h"
#include "api/endpoint.h"
#include "api/host.h"
#include "api/instance.h"
#include "api/roles.h"
#include "api/schema.h"
#include "base/testing.h"
#include "base/util.h"

static const struct api_field *field_of(const struct api_desc *d, const char *name, size_t len) {
	for (size_t i = 0; d && i < d->n_fields; i++)
		if (strlen(d->fields[i].name) == len && memcmp(d->fields[i].name, name, len) == 0)
			return &d->fields[i];
	return NULL;
}

/* True if the path leads to a string field. A field of metadata counts as a string. */
static bool is_string_at(const struct api_desc *d, const char *path) {
	const struct api_field *f = NULL;
	if (streq(path, "metadata.name"))
		return true;
	for (size_t n; *path; path += n + (path[n] == '.')) {
		n = strcspn(path, ".");
		f = field_of(f ? f->sub : d, path, n);
		if (!f)
			return false;
	}
	return f && f->type == API_TYPE_str;
}

static void check_words(const struct api_kind *k, const char *part, const char *words) {
	const struct api_field *f = field_of(k->desc, part, strlen(part));
	const char *w;
	if (!words || streq(words, "*"))
		return;
	/* The members that the words limit must be the only ones. */
	assert_false(k->desc->open);
	for (size_t i = 0; i < k->desc->n_fields; i++)
		if (!access_has_word("metadata spec status", k->desc->fields[i].name))
			fail_msg("%s: %s is not bounded", k->kind, k->desc->fields[i].name);
	for (size_t n; (w = access_next_word(&words, &n));)
		if (!f || !field_of(f->sub, w, n))
			fail_msg("%s: %s has no %.*s", k->kind, part, (int)n, w);
}

static void check_grants(const struct api_kind *k, const struct access_grant *g, _unused_ void *userdata) {
	const char *parts = g->parts, *verbs = g->verbs, *w;
	for (size_t n; (w = access_next_word(&parts, &n));) {
		_free_ char *part = strndup(w, n);
		if ((streq(part, "status") && !k->has_status) || (streq(part, "scale") && !k->scale) ||
		    (streq(part, "token") && k != &api_kind_serviceaccount) ||
		    (streq(part, "finalizers") && !streq(k->group, "nacre.dev")) ||
		    !access_has_word(". status scale finalizers token", part))
			fail_msg("%s has no %s", k->kind, part);
	}
	for (size_t n; (w = access_next_word(&verbs, &n));) {
		_free_ char *verb = strndup(w, n);
		if (!access_has_word(ACCESS_READ " " ACCESS_WRITE " impersonate", verb))
			fail_msg("%s: %s is no verb", k->kind, verb);
	}
	assert_true(*g->verbs && *g->parts);
	if (!*roles_name(g->role))
		fail_msg("%s: there is no role for %d", k->kind, g->role);
	if (g->ns) {
		assert_string_equal(g->ns, ROLES_SYSTEM_NS); /* roles.c has no roles for other namespaces */
		assert_true(k->namespaced);
	}
}

static bool may_list(const struct api_kind *k, const char *path) {
	for (const char *const *s = k->selectable_fields; s && *s; s++)
		if (streq(*s, path))
			return true;
	return streq(path, "metadata.name");
}

static void check_agents(const struct api_kind *k, const struct access_agents *g) {
	if (!g->whose) {
		assert_true(!g->own && !g->reads && !access_agents_write(g));
		return;
	}
	assert_true((g->own || g->sees_all || g->sees) && (g->own || !access_agents_write(g)));
	assert_true(!g->sees == !g->sees_only && !(g->sees && (g->own || g->sees_all || g->reads)));
	if (g->own && !is_string_at(k->desc, g->own))
		fail_msg("%s has no %s", k->kind, g->own);
	if (!g->sees_all && g->reads && access_has_word(g->reads, "list") && !may_list(k, g->own))
		fail_msg("agents can't list their own %s: %s is not selectable", k->plural, g->own);
	/* A write of the status that may change nothing is of no use, and admission.c has no words for it. */
	assert_true(!g->status || (k->has_status && *g->status));
	assert_true(!g->ns || k->namespaced);
	check_words(k, "spec", g->creates);
	check_words(k, "spec", g->updates);
	check_words(k, "status", g->status);
	for (const struct access_rule *r = g->rules; r && r->whose; r++) {
		assert_true((r->whose & ~g->whose) == 0 && r->check);
		assert_null(strpbrk(r->says, "'\"\\\n"));
		assert_true(!r->cel || !strstr(r->cel, "  "));
	}
}

static void test_every_kind(void **state) {
	(void)state;
	for (const struct api_kind *const *k = api_kinds; *k; k++) {
		if (!(*k)->access)
			fail_msg("%s doesn't say who may do what with it: .access is missing", (*k)->kind);
		access_each_grant(*k, check_grants, NULL);
		check_agents(*k, &(*k)->access->agents);
	}
}

static void test_secrets_name(void **state) {
	char name[ROLES_NAME_MAX], other[ROLES_NAME_MAX], host[254];
	(void)state;
	assert_string_equal(roles_secrets_name("h1.example", name), "nacre-host-h1.example");
	/* The longest host that fits is written out; longer ones are cut, and still have names of their own. */
	memset(host, 'a', 253);
	host[242] = 0;
	assert_int_equal(strlen(roles_secrets_name(host, name)), 253);
	assert_null(strchr(name, '_'));
	host[242] = 'a';
	host[253] = 0;
	assert_int_equal(strlen(roles_secrets_name(host, name)), 253);
	assert_non_null(strchr(name, '_'));
	host[252] = 'b';
	roles_secrets_name(host, other);
	assert_string_not_equal(name, other);
	assert_int_equal(api_format_segment.check(name, NULL), 0);
}

static void count_grant(_unused_ const struct api_kind *k, const struct access_grant *g, void *userdata) {
	struct buf *out = userdata;
	if (g->role == ACCESS_HOSTS)
		buf_printf(out, "%s: %s;", g->parts, g->verbs);
}

/* The roles of agents follow from what the kinds let them write. */
static void test_grants(void **state) {
	static const struct {
		const struct api_kind *kind;
		const char *want;
	} t[] = {
		{&api_kind_instance, ".: get list watch;status: get update patch;"},
		{&api_kind_host, ".: get list watch create update patch;status: get update patch;"},
		{&api_kind_endpoint, ".: get list watch create update patch delete;"},
		{&api_kind_event, ".: create update patch;"},
		{&api_kind_lease, ".: get create update patch;"},
		{&api_kind_namespace, ""},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		_buf_free_ struct buf b = {0};
		buf_puts(&b, "");
		access_each_grant(t[i].kind, count_grant, &b);
		assert_string_equal(b.len ? b.data : "", t[i].want);
	}
}

static void test_own(void **state) {
	const struct access_agent h1 = {"host", "h1", ACCESS_OF_HOST}, e1 = {"edge", "e1", ACCESS_OF_EDGE};
	const struct access_agents *g = access_agents(&api_kind_lease, ACCESS_OF_HOST);
	json_t *lease = json_pack("{s:{s:s}}", "metadata", "name", "host-h1");
	(void)state;
	assert_true(access_is_own(g, &h1, lease));
	assert_false(access_is_own(g, &e1, lease));
	assert_false(access_is_own(g, &h1, NULL));
	assert_false(access_is_own(access_agents(&api_kind_instance, ACCESS_OF_HOST), &h1, lease));
	assert_null(access_agents(&api_kind_instance, ACCESS_OF_EDGE));
	assert_null(access_agents(&api_kind_namespace, ACCESS_OF_HOST));
	assert_null(access_string(lease, "metadata"));
	assert_null(access_string(lease, "metadata.name.x"));
	json_decref(lease);
}

static void test_words(void **state) {
	static const char *const t[][2] = {
		{"", ""}, {"a", "`a`"}, {"a b", "`a` and `b`"}, {"a b c", "`a`, `b` and `c`"}};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		_buf_free_ struct buf b = {0};
		access_print_words(&b, t[i][0], "`");
		assert_string_equal(b.len ? b.data : "", t[i][1]);
	}
	assert_true(access_has_word("a bc", "bc") && access_has_word("a bc", "a"));
	assert_false(access_has_word("a bc", "b") || access_has_word("a bc", "") || access_has_word(NULL, "a"));
}

static void test_kinds_of_agents(void **state) {
	static const struct {
		unsigned whose;
		const char *plural, *one;
	} t[] = {
		{ACCESS_OF_EDGE, "edges", "an edge"},
		{ACCESS_OF_EDGE | ACCESS_OF_BALANCER, "edges and balancers", "an edge or balancer"},
		{ACCESS_OF_ALL, "hosts, edges and balancers", "a host, edge or balancer"},
	};
	unsigned all = 0;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		_buf_free_ struct buf plural = {0}, one = {0};
		agents_print_plural(&plural, t[i].whose);
		agents_print_one(&one, t[i].whose);
		assert_string_equal(plural.data, t[i].plural);
		assert_string_equal(one.data, t[i].one);
	}
	for (const struct agent_kind *k = agent_kinds; k->whose; k++) {
		_free_ char *user = strf("%sx", k->user_prefix);
		all |= k->whose;
		assert_ptr_equal(agent_kind_of_user(user), k);
		assert_ptr_equal(agent_kind_of_role(k->host_role), k);
		assert_ptr_equal(agent_kind_of(k->whose), k);
	}
	assert_int_equal(all, ACCESS_OF_ALL);
	assert_null(agent_kind_of_user("system:nacre:controller"));
	assert_null(agent_kind_of_role(NULL));
}

static void test_policies(void **state) {
	_buf_free_ struct buf b = {0};
	struct error err = {0};
	(void)state;
	assert_int_equal(admission_yaml(&b, &err), 0);
	for (const struct api_kind *const *k = api_kinds; *k; k++) {
		const struct access_agents *g = access_agents(*k, ACCESS_OF_ALL);
		_free_ char *what = strf("%s/%s", (*k)->group, (*k)->plural);
		if ((strstr(b.data, what) != NULL) != (g && access_agents_write(g)))
			fail_msg("the policy and the declaration of %s differ", (*k)->kind);
	}
}

/* The reference says which rules only nacre-apiserver has, and that agents see only what their roles let them read. */
static void test_reference(void **state) {
	_buf_free_ struct buf b = {0};
	struct error err = {0};
	(void)state;
	assert_int_equal(api_reference(&b, &err), 0);
	for (const struct api_kind *const *k = api_kinds; *k; k++)
		for (const struct access_rule *r = (*k)->access->agents.rules; r && r->whose; r++) {
			_free_ char *end = strf(" %s%s.\n", r->says, r->cel ? "" : " (nacre-apiserver only)");
			if (!strstr(b.data, end))
				fail_msg("%s: the reference doesn't have:%s", (*k)->kind, end);
		}
	assert_non_null(strstr(b.data, "balancers write those whose `source.host`"));
	assert_non_null(strstr(b.data, "balancers see and write those whose `metadata.name` is `host-` and"));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_secrets_name), cmocka_unit_test(test_every_kind),
		cmocka_unit_test(test_grants),       cmocka_unit_test(test_own),
		cmocka_unit_test(test_words),        cmocka_unit_test(test_kinds_of_agents),
		cmocka_unit_test(test_policies),     cmocka_unit_test(test_reference),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
