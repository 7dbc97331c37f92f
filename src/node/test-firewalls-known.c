/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which Firewalls an instance has according to the caches. No API answers: objects are put into the cache of a
 * namespace, which only the module itself can reach.
 */

#include "base/testing.h"

#include "kube/client.h"

#include "firewalls.c"

#define NS "t"

static struct error error;

static void on_changed_ignored(void *userdata, const char *ns) {
	(void)userdata;
	(void)ns;
}

static void on_known_ignored(void *userdata) {
	(void)userdata;
}

static void on_problem_ignored(void *userdata, const char *ns, const char *name, const struct error *err) {
	(void)userdata;
	(void)ns;
	(void)name;
	(void)err;
}

struct rig {
	sd_event *loop;
	struct kube_client *client;
	struct firewalls *f;
};

static void rig_begin(struct rig *r) {
	assert_true(sd_event_new(&r->loop) >= 0);
	OK(kube_client_new(&r->client, r->loop, "unix:/nonexistent", "test", &error));
	const struct firewalls_config c = {.client = r->client,
	                                   .changed = on_changed_ignored,
	                                   .known = on_known_ignored,
	                                   .problem = on_problem_ignored};
	OK(firewalls_new(&r->f, &c, &error));
}

static void rig_end(struct rig *r) {
	firewalls_free(r->f);
	kube_client_free(r->client);
	sd_event_unref(r->loop);
}

/* Puts a Firewall that selects all instances, with this default, into the cache of its namespace. */
static void rig_feed(struct rig *r, const char *name, const char *default_egress) {
	_free_ char *json = strf("{\"metadata\":{\"name\":\"%s\",\"namespace\":\"" NS
	                         "\",\"uid\":\"%s\",\"generation\":1,\"resourceVersion\":\"1\"},"
	                         "\"spec\":{\"instances\":{},\"defaultEgress\":\"%s\"}}",
	                         name, name, default_egress);
	struct api_errors errs = {0};
	void *fw = NULL;

	assert_non_null(json);
	assert_true(api_parse(&api_kind_firewall, json, strlen(json), &fw, &errs) >= 0);
	kube_cache_feed(guarded_find(r->f, NS)->cache, fw);
}

static void one_beyond_the_limit_still_denies(void **state) {
	(void)state;
	const struct api_map labels = {0};
	struct firewalls_attached now;
	struct rig r;
	char name[16];

	rig_begin(&r);
	firewalls_hold(r.f, NS);
	for (int i = 0; i < FIREWALL_ATTACHED_MAX + 1; i++) {
		snprintf(name, sizeof(name), "f%02d", i);
		rig_feed(&r, name, "allow");
	}
	firewalls_attached(r.f, NS, &labels, &now);
	assert_int_equal(now.is.n, FIREWALL_ATTACHED_MAX);
	assert_int_equal(now.beyond, 1);
	assert_false(now.is.deny_beyond);
	rig_feed(&r, "last", "deny");
	firewalls_attached(r.f, NS, &labels, &now);
	assert_int_equal(now.beyond, 2);
	assert_true(now.is.deny_beyond);
	rig_end(&r);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_beyond_the_limit_still_denies),
	};
	return cmocka_run_group_tests_name("firewalls", tests, NULL, NULL);
}
