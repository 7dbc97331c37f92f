/* SPDX-License-Identifier: Apache-2.0 */

/* What is known of Firewalls, and whom changes of them and of Endpoints concern, by what a scripted server says. */

#include "kube/testing.h"

#include "kube/client.h"
#include "node/firewalls.h"

#define NS "t"
#define OBJECT(name, generation, rv, labels)                                                                         \
	"{\"metadata\":{\"namespace\":\"" NS "\",\"name\":\"" name "\",\"uid\":\"u-" name                            \
	"\",\"resourceVersion\":\"" rv "\",\"generation\":" generation ",\"labels\":{" labels                        \
	"}},\"spec\":{\"instances\":{\"matchLabels\":{\"app\":\"" name                                               \
	"\"}},\"ingress\":[{\"peers\":{\"matchLabels\":{\"is\":\"" name "\"}}},{\"peers\":{\"matchLabels\":{\"is\":" \
	"\"" name "\"}},\"prefixes\":[\"::/0\"]}]}}"
#define EVENT(object) "{\"type\":\"MODIFIED\",\"object\":" object "}\n"

struct told {
	int changed, members, known;
	bool a, b; /* the last change of members concerned the instances with app=a, app=b */
	struct firewalls *f;
};

static char a_text[] = "a", b_text[] = "b", app[] = "app";
static struct api_kv a_label = {app, a_text}, b_label = {app, b_text};
static const struct api_map is_a = {.n = 1, .v = &a_label}, is_b = {.n = 1, .v = &b_label};

static void on_changed(void *userdata, const char *ns) {
	assert_string_equal(ns, NS);
	((struct told *)userdata)->changed++;
}

static void on_members(void *userdata, const char *ns, const char *const *ids, size_t n) {
	struct told *t = userdata;

	assert_string_equal(ns, NS);
	t->a = firewalls_use(t->f, ns, &is_a, ids, n);
	t->b = firewalls_use(t->f, ns, &is_b, ids, n);
	t->members++;
}

static void on_known(void *userdata) {
	((struct told *)userdata)->known++;
}

static void on_refused(_unused_ void *userdata, _unused_ const char *ns, const struct error *err) {
	assert_null(err);
}

static void on_problem(_unused_ void *userdata, _unused_ const char *ns, _unused_ const char *name,
                       _unused_ const struct error *err) {
	fail();
}

/* An Endpoint of the namespace in group ID. */
static void endpoint_change(struct firewalls *f, enum kube_change_type type, const char *name, const char *route,
                            const char *id) {
	_free_ char *json =
		strf("{\"metadata\":{\"name\":\"%s\"},\"spec\":{\"host\":\"h\",\"vtep\":\"fd00::1\",\"ip\":"
	             "\"fd00::2\",\"mac\":\"02:00:00:00:00:01\",\"owner\":{\"kind\":\"Instance\",\"namespace\":"
	             "\"" NS "\",\"name\":\"%s\",\"uid\":\"u\"},\"routes\":[{\"prefix\":\"%s\"}]},"
	             "\"status\":{\"groups\":[\"%s\"]}}",
	             name, name, route, id);
	struct api_errors errs = {0};
	void *e;

	assert_int_equal(api_parse(&api_kind_endpoint, json, strlen(json), &e, &errs), 0);
	firewalls_endpoint(f, &(struct kube_change){.type = type, .name = name, .obj = e});
	api_free(&api_kind_endpoint, e);
}

static void group_of(const char *value, char out[static FIREWALL_GROUP_ID_MAX]) {
	char key[] = "is";
	struct api_kv label = {key, (char *)value};
	const struct api_selector peers = {.match_labels = {.n = 1, .v = &label}};

	assert_int_equal(firewall_group_id(NS, &peers, out), 0);
}

struct rig {
	sd_event *loop;
	struct kube_client *client;
	struct server server;
};

/* All Endpoints are known, and the Firewalls of the namespace are asked for. */
static void rig_begin(struct rig *r, struct told *t, const struct step *steps) {
	struct error error;

	*r = (struct rig){0};
	assert_int_equal(sd_event_new(&r->loop), 0);
	server_start(&r->server, steps);
	OK(kube_client_new(&r->client, r->loop, r->server.url, "test", &error));
	const struct firewalls_config c = {.client = r->client,
	                                   .changed = on_changed,
	                                   .members = on_members,
	                                   .known = on_known,
	                                   .refused = on_refused,
	                                   .problem = on_problem,
	                                   .userdata = t};
	OK(firewalls_new(&t->f, &c, &error));
	firewalls_endpoint(t->f, &(struct kube_change){.type = KUBE_SYNCED});
	firewalls_hold(t->f, NS);
}

static void rig_end(struct rig *r, struct told *t) {
	firewalls_free(t->f);
	server_stop(&r->server);
	kube_client_free(r->client);
	sd_event_unref(r->loop);
}

static void only_those_concerned_are_told(void **state) {
	(void)state;
	static const struct step steps[] = {
		{"/namespaces/" NS "/firewalls?limit=", NULL,
	         "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[" OBJECT("a", "1", "1", "") "," OBJECT(
			 "b", "1", "2", "") "]}"},
		{"resourceVersion=10", NULL, "", true},
		{NULL},
	};
	char a[FIREWALL_GROUP_ID_MAX], b[FIREWALL_GROUP_ID_MAX];
	struct firewalls_attached at;
	struct told t = {0};
	struct rig r;

	group_of("a", a);
	group_of("b", b);
	rig_begin(&r, &t, steps);
	run_until(r.loop, &t.known, 2);
	run_until(r.loop, &r.server.done, 2);
	int before = t.changed;

	/* What a Firewall adds to an instance is known without measuring it: two elements for peers, one for ::/0. */
	firewalls_attached(t.f, NS, &is_a, &at);
	assert_int_equal(at.is.n, 1);
	assert_int_equal(at.sizes[0]->ingress, 3);
	assert_int_equal(at.sizes[0]->n_groups, 1);
	assert_string_equal(at.sizes[0]->groups[0].id, a);

	/* Only the second of these changes is one of the rules. */
	dprintf(r.server.held[0], "%s%s", EVENT(OBJECT("a", "1", "11", "\"x\":\"y\"")),
	        EVENT(OBJECT("a", "2", "12", "")));
	run_until(r.loop, &t.changed, before + 1);
	assert_int_equal(t.changed, before + 1);
	firewalls_attached(t.f, NS, &is_a, &at);
	assert_int_equal(at.v[0]->meta.generation.v, 2);

	/* Of members hear those whose Firewalls name the group. */
	endpoint_change(t.f, KUBE_ADDED, "e1", "2001:db8:1:1::/64", a);
	assert_true(t.members == 1 && t.a && !t.b);
	endpoint_change(t.f, KUBE_MODIFIED, "e1", "2001:db8:1:1::/64", a);
	assert_int_equal(t.members, 1);
	endpoint_change(t.f, KUBE_ADDED, "e2", "2001:db8:1:2::/64", "cccccccccccccccccccccccccccccccc");
	assert_int_equal(t.members, 1);
	endpoint_change(t.f, KUBE_MODIFIED, "e2", "2001:db8:1:2::/64", b);
	assert_true(t.members == 2 && !t.a && t.b);
	endpoint_change(t.f, KUBE_DELETED, "e1", "2001:db8:1:1::/64", a);
	assert_true(t.members == 3 && t.a && !t.b);
	assert_int_equal(t.changed, before + 1);
	rig_end(&r, &t);
}

/* An empty cache that has not been filled yet doesn't mean that there is no Firewall. */
static void unknown_until_the_api_has_told_all(void **state) {
	(void)state;
	static const struct step steps[] = {
		{"/namespaces/" NS "/firewalls?limit=", NULL,
	         "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[]}"},
		{"resourceVersion=10", NULL, "", true},
		{NULL},
	};
	struct firewalls_attached now;
	struct told t = {0};
	struct rig r;

	rig_begin(&r, &t, steps);
	firewalls_attached(t.f, "another", &is_a, &now);
	assert_true(now.is.unknown && now.pending);
	firewalls_attached(t.f, NS, &is_a, &now);
	assert_true(now.is.unknown && now.pending);
	run_until(r.loop, &t.known, 2);
	run_until(r.loop, &r.server.done, 2);
	firewalls_attached(t.f, NS, &is_a, &now);
	assert_false(now.is.unknown || now.pending);
	rig_end(&r, &t);
}

/* N Firewalls that select all instances; the last one denies egress if DENY. */
static char *list_of(size_t n, bool deny) {
	struct buf b = {0};

	buf_puts(&b, "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[");
	for (size_t i = 0; i < n; i++)
		buf_printf(&b,
		           "%s{\"metadata\":{\"name\":\"f%02zu\",\"namespace\":\"" NS
		           "\",\"uid\":\"u%zu\",\"generation\":1,\"resourceVersion\":\"%zu\"},"
		           "\"spec\":{\"instances\":{},\"defaultEgress\":\"%s\"}}",
		           i ? "," : "", i, i, i + 1, deny && i == n - 1 ? "deny" : "allow");
	buf_puts(&b, "]}");
	assert_false(b.failed);
	return b.data;
}

static void one_beyond_the_limit_still_denies(void **state) {
	(void)state;
	for (int deny = 0; deny < 2; deny++) {
		_free_ char *list = list_of(FIREWALL_ATTACHED_MAX + 2, deny);
		const struct step steps[] = {
			{"/namespaces/" NS "/firewalls?limit=", NULL, list},
			{"resourceVersion=10", NULL, "", true},
			{NULL},
		};
		struct firewalls_attached now;
		struct told t = {0};
		struct rig r;
		rig_begin(&r, &t, steps);
		run_until(r.loop, &t.known, 2);
		run_until(r.loop, &r.server.done, 2);
		firewalls_attached(t.f, NS, &is_a, &now);
		assert_int_equal(now.is.n, FIREWALL_ATTACHED_MAX);
		assert_int_equal(now.beyond, 2);
		assert_int_equal(now.is.deny_beyond, deny);
		rig_end(&r, &t);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_those_concerned_are_told),
		cmocka_unit_test(unknown_until_the_api_has_told_all),
		cmocka_unit_test(one_beyond_the_limit_still_denies),
	};
	return cmocka_run_group_tests_name("firewalls", tests, NULL, NULL);
}
