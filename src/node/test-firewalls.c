/* SPDX-License-Identifier: Apache-2.0 */

/* Whom the changes of Firewalls and of Endpoints concern, by what a scripted server says. */

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

static void only_those_concerned_are_told(void **state) {
	(void)state;
	static const struct step steps[] = {
		{"/namespaces/" NS "/firewalls?limit=", NULL,
	         "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[" OBJECT("a", "1", "1", "") "," OBJECT(
			 "b", "1", "2", "") "]}"},
		{"resourceVersion=10", NULL, "", true},
		{NULL},
	};
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	_cleanup_(cleanup_kube_client) struct kube_client *client = NULL;
	char a[FIREWALL_GROUP_ID_MAX], b[FIREWALL_GROUP_ID_MAX];
	struct told t = {0};
	struct firewalls_attached at;
	struct server s;
	struct error error;

	group_of("a", a);
	group_of("b", b);
	assert_int_equal(sd_event_new(&loop), 0);
	server_start(&s, steps);
	OK(kube_client_new(&client, loop, s.url, "test", &error));
	const struct firewalls_config c = {.client = client,
	                                   .changed = on_changed,
	                                   .members = on_members,
	                                   .known = on_known,
	                                   .problem = on_problem,
	                                   .userdata = &t};
	OK(firewalls_new(&t.f, &c, &error));
	firewalls_endpoint(t.f, &(struct kube_change){.type = KUBE_SYNCED});
	firewalls_hold(t.f, NS);
	run_until(loop, &t.known, 2);
	run_until(loop, &s.done, 2);
	int before = t.changed;

	/* What a Firewall adds to an instance is known without measuring it: two elements for peers, one for ::/0. */
	firewalls_attached(t.f, NS, &is_a, &at);
	assert_int_equal(at.is.n, 1);
	assert_int_equal(at.sizes[0]->ingress, 3);
	assert_int_equal(at.sizes[0]->n_groups, 1);
	assert_string_equal(at.sizes[0]->groups[0].id, a);

	/* Only the second of these changes is one of the rules. */
	dprintf(s.held[0], "%s%s", EVENT(OBJECT("a", "1", "11", "\"x\":\"y\"")), EVENT(OBJECT("a", "2", "12", "")));
	run_until(loop, &t.changed, before + 1);
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
	firewalls_free(t.f);
	server_stop(&s);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(only_those_concerned_are_told)};
	return cmocka_run_group_tests_name("firewalls", tests, NULL, NULL);
}
