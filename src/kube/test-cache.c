/* SPDX-License-Identifier: Apache-2.0 */

/* The cache and the list and watch below it, against a scripted server. */

#include "kube/testing.h"

#include "api/endpoint.h"
#include "api/instance.h"
#include "kube/cache.h"
#include "kube/index.h"
#include "kube/internal.h"

#define META(name, uid, rv) \
	"\"metadata\":{\"namespace\":\"t\",\"name\":\"" name "\",\"uid\":\"" uid "\",\"resourceVersion\":\"" rv "\"}"
#define INST(name, uid, rv) "{" META(name, uid, rv) ",\"spec\":{\"type\":\"small\",\"image\":\"lab\"}}"
#define BAD(name, uid, rv)  "{" META(name, uid, rv) ",\"spec\":{\"type\":7}}"
#define EV(type, obj)       "{\"type\":\"" type "\",\"object\":" obj "}\n"
#define TOO_OLD             EV("ERROR", "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"too old\"}")
#define LIST(rv, items)     "{\"metadata\":{\"resourceVersion\":\"" rv "\"},\"items\":[" items "]}"
#define GET_LIST            "GET /apis/nacre.dev/v1alpha1/instances?limit=2000 "

struct seen {
	char log[2048];
	struct kube_index *odd; /* NULL: no index is checked */
	int events, syncs, bad, states;
};

/* The index function: only objects with an odd version have a value. */
static const char *odd_version(const void *obj, _unused_ char buf[static KUBE_KEY_MAX]) {
	const char *v = ((const struct api_meta *)obj)->resource_version;
	return (v[strlen(v) - 1] - '0') % 2 ? "odd" : NULL;
}

/* The names in the index, one character each. */
static const char *odd_names(const struct kube_index *x, char out[static 16]) {
	size_t n = 0;
	for (const struct api_meta *m = kube_index_first(x, "odd"); m; m = kube_index_next(x, "odd", m))
		out[n++] = *m->name;
	out[n] = '\0';
	return out;
}

static void on_change(const struct kube_change *ch, void *userdata) {
	static const char *const names[] = {"add", "mod", "del", "sync"};
	struct seen *s = userdata;
	size_t n = strlen(s->log);
	snprintf(s->log + n, sizeof(s->log) - n, "%s%s%s ", names[ch->type], ch->name ? ":" : "",
	         ch->name ? ch->name : "");
	s->events++;
	if (ch->type == KUBE_SYNCED)
		s->syncs++;
	else {
		assert_string_equal(ch->ns, "t");
		assert_true(ch->type != KUBE_MODIFIED || ch->old);
	}
	char odd[16], buf[KUBE_KEY_MAX];
	/* The index is updated before handlers are called. */
	if (!s->odd || !ch->obj)
		return;
	assert_true(!strchr(odd_names(s->odd, odd), *ch->name) ==
	            (ch->type == KUBE_DELETED || !odd_version(ch->obj, buf)));
	/* What follows an object is found even if the object is not in the index any more. */
	const struct api_meta *next = kube_index_next(s->odd, "odd", ch->obj);
	size_t before = 0;
	while (odd[before] && odd[before] <= *ch->name)
		before++;
	assert_int_equal(next ? *next->name : '\0', odd[before]);
}

/* Called before the index is updated: the cache lacks an object that the index still has. */
static void on_change_early(const struct kube_change *ch, void *userdata) {
	const struct seen *s = userdata;
	char odd[16];
	if (ch->type == KUBE_DELETED && *ch->name == 'c')
		assert_string_equal(odd_names(s->odd, odd), "de");
}

static void on_bad(_unused_ const struct kube_cache *c, const char *ns, const char *name, const struct error *err,
                   void *userdata) {
	struct seen *s = userdata;
	assert_string_equal(ns, "t");
	assert_string_equal(name, "c");
	assert_non_null(strstr(err->msg, "spec.type"));
	s->bad++;
}

static void on_state(const struct kube_cache *c, bool connected, const struct error *err, void *userdata) {
	assert_true(c && connected == !err);
	((struct seen *)userdata)->states++;
}

/* A cache against a server that follows a script. */
struct rig {
	struct server server;
	sd_event *loop;
	struct kube_client *client;
	struct kube_cache *cache;
	struct seen seen; /* what HANDLER and the options' functions get */
};

static void rig_begin(struct rig *r, const struct step *steps, const struct api_kind *kind, struct kube_cache_options o,
                      kube_change_fn handler) {
	struct error err;
	*r = (struct rig){0};
	o.userdata = &r->seen;
	assert_int_equal(sd_event_new(&r->loop), 0);
	server_start(&r->server, steps);
	assert_int_equal(kube_client_new(&r->client, r->loop, r->server.url, "test", &err), 0);
	assert_int_equal(kube_cache_new(&r->cache, r->client, kind, &o, &err), 0);
	assert_int_equal(kube_cache_on_change(r->cache, handler, &r->seen), 0);
}

/* The test has stopped the server. */
static void rig_end(struct rig *r) {
	kube_cache_free(r->cache);
	kube_client_free(r->client);
	sd_event_unref(r->loop);
}

static void test_cache(void **state) {
	(void)state;
	static const struct step steps[] = {
		{GET_LIST, NULL,
	         "{\"kind\":\"InstanceList\",\"metadata\":{\"resourceVersion\":\"10\",\"continue\":\"a "
	         "b\"},\"items\":[" INST("z", "u0", "2") "," INST("a", "u1", "5") "]}"},
		/* The second page fails, so the list begins anew; objects that were only on its first page are gone. */
		{"limit=2000&continue=a%20b ", "410 Gone", "{\"reason\":\"Expired\"}"},
		{GET_LIST, NULL,
	         "{\"kind\":\"InstanceList\",\"metadata\":{\"resourceVersion\":\"10\",\"continue\":\"a "
	         "b\"},\"items\":[" INST("a", "u1", "5") "]}"},
		{"limit=2000&continue=a%20b ", NULL,
	         "{\"items\":[" INST("b", "u2", "6") "],\"metadata\":{\"resourceVersion\":\"10\",\"continue\":\"\"}}"},
		{"watch=true&allowWatchBookmarks=true&resourceVersion=10&timeoutSeconds=", NULL,
	         EV("ADDED", INST("c", "u3", "11")) EV("MODIFIED", INST("a", "u1", "12"))
	                 EV("MODIFIED", BAD("c", "u3", "13")) EV("DELETED", INST("b", "u2", "14"))
	                         EV("BOOKMARK", "{\"kind\":\"Instance\",\"metadata\":{\"resourceVersion\":\"20\"}}")},
		{"resourceVersion=20", NULL, TOO_OLD},
		{GET_LIST, NULL, LIST("30", BAD("c", "u3", "13") "," INST("d", "u4", "25"))},
		{"resourceVersion=30", NULL, EV("ADDED", INST("e", "u5", "31")), true},
		{NULL},
	};
	struct rig r;
	rig_begin(&r, steps, &api_kind_instance, (struct kube_cache_options){.bad = on_bad, .state = on_state},
	          on_change);
	assert_int_equal(kube_index_new(&r.seen.odd, r.cache, odd_version, NULL), 0);
	assert_int_equal(kube_cache_on_change_first(r.cache, on_change_early, &r.seen), 0);
	run_until(r.loop, &r.seen.events, 12);
	/* The vanished "a" is reported as deleted; the unreadable "c" stays as it was. */
	assert_string_equal(r.seen.log, "add:z add:a add:b del:z sync add:c mod:a del:b add:d del:a sync add:e ");
	assert_int_equal(r.seen.bad, 1);    /* twice for the same reason */
	assert_int_equal(r.seen.states, 3); /* connected, disconnected, connected */
	assert_true(kube_cache_synced(r.cache) && kube_cache_connected(r.cache));
	assert_true(kube_client_last_contact(r.client) > 0);
	assert_int_equal(kube_cache_count(r.cache), 3);
	const struct instance *i = kube_cache_get(r.cache, "t", "c");
	assert_string_equal(i->meta.resource_version, "11");
	size_t n = 0;
	KUBE_CACHE_FOREACH(i, r.cache)
	n++;
	assert_int_equal(n, 3);
	char names[16];
	assert_string_equal(odd_names(r.seen.odd, names), "cde"); /* 11, 25 and 31 */
	assert_null(kube_index_first(r.seen.odd, "even"));

	/* Feeding: a newer object is stored, an older or deleted one is not; a late event does not bring the older one
	 * back. */
	void *obj;
	struct api_errors errs = {0};
	const char *newer = INST("e", "u5", "40"), *older = INST("e", "u5", "35"), *gone = INST("b", "u2", "13");
	r.seen.log[0] = '\0';
	for (int k = 0; k < 3; k++) {
		const char *text = k == 0 ? newer : k == 1 ? older : gone;
		assert_int_equal(api_parse(&api_kind_instance, text, strlen(text), &obj, &errs), 0);
		kube_cache_feed(r.cache, obj);
	}
	assert_string_equal(r.seen.log, "mod:e ");
	assert_int_equal(kube_cache_count(r.cache), 3);
	assert_string_equal(odd_names(r.seen.odd, names), "cd");
	int before = r.seen.events;
	dprintf(r.server.held[0], "%s%s", EV("MODIFIED", INST("e", "u5", "38")), EV("MODIFIED", INST("e", "u5", "41")));
	run_until(r.loop, &r.seen.events, before + 1);
	i = kube_cache_get(r.cache, "t", "e");
	assert_string_equal(i->meta.resource_version, "41");
	assert_string_equal(odd_names(r.seen.odd, names), "cde");
	dprintf(r.server.held[0], "%s", EV("DELETED", INST("c", "u3", "42")));
	run_until(r.loop, &r.seen.events, before + 2);
	assert_string_equal(odd_names(r.seen.odd, names), "de");
	/* The server stops: the cache keeps everything. */
	server_stop(&r.server);
	run_until(r.loop, &r.seen.states, 4);
	assert_false(kube_cache_connected(r.cache));
	assert_int_equal(kube_cache_count(r.cache), 2);
	rig_end(&r);
	kube_index_free(r.seen.odd);
}

/* Its protocol is unknown. Its name follows what can't be read. */
#define PARTIAL(name, id, rv)                                                                                        \
	"{\"status\":{\"id\":\"" id "\"},\"spec\":{\"type\":\"small\",\"image\":\"lab\",\"ingress\":[{\"protocol\":" \
	"\"tcq\"}]}," META(name, "u-" name, rv) "}"

/* Its metadata is wrong, too. */
#define MISLABELED(name, uid, rv)                                                                          \
	"{\"metadata\":{\"labels\":{\"a\":\"-\"},\"namespace\":\"t\",\"name\":\"" name "\",\"uid\":\"" uid \
	"\",\"resourceVersion\":\"" rv "\"},\"spec\":{\"type\":\"small\",\"image\":\"lab\"}}"

static void note_bad(const struct kube_cache *c, const char *ns, const char *name, const struct error *err,
                     void *userdata) {
	struct seen *s = userdata;
	size_t n = strlen(s->log);
	assert_true(kube_cache_get_bad(c, ns, name) && err->code == EINVAL);
	snprintf(s->log + n, sizeof(s->log) - n, "bad:%s ", name);
	s->bad++;
}

static void note_good(const struct kube_cache *c, const char *ns, const char *name, void *userdata) {
	struct seen *s = userdata;
	size_t n = strlen(s->log);
	assert_null(kube_cache_get_bad(c, ns, name));
	snprintf(s->log + n, sizeof(s->log) - n, "good:%s ", name);
}

/* Objects that are not understood are told until they are understood or gone; what could be read of them can be asked
 * for. */
static void test_not_understood(void **state) {
	(void)state;
	static const struct step steps[] = {
		{"instances?limit=", NULL,
	         LIST("10", PARTIAL("a", "id-a", "1") "," PARTIAL("b", "id-b", "2") "," INST("c", "u3", "3"))},
		{"watch=true", NULL,
	         EV("MODIFIED", INST("a", "u-a", "11")) EV("DELETED", PARTIAL("b", "id-b", "12"))
	                 EV("ADDED", MISLABELED("d", "u4", "13"))},
		{"resourceVersion=13", NULL, TOO_OLD},
		/* "d" is gone. The nameless object may be "a" or "c". */
		{"instances?limit=", NULL, LIST("20", "{\"metadata\":{\"name\":7}}")},
		{"watch=true", NULL, TOO_OLD},
		{"instances?limit=", NULL, LIST("30", INST("c", "u3", "3"))},
		{"watch=true", NULL, "", true},
		{NULL}};
	struct rig r;
	rig_begin(&r, steps, &api_kind_instance, (struct kube_cache_options){.bad = note_bad, .good = note_good},
	          on_change);
	run_until(r.loop, &r.seen.syncs, 1);
	assert_int_equal(kube_cache_count_bad(r.cache), 2);
	const struct instance *i = kube_cache_first_bad(r.cache);
	assert_string_equal(i->status->id, "id-a");
	i = kube_cache_next_bad(r.cache, i);
	assert_string_equal(i->status->id, "id-b");
	assert_null(kube_cache_next_bad(r.cache, i));
	run_until(r.loop, &r.seen.syncs, 2);
	assert_int_equal(kube_cache_count_bad(r.cache), 1);
	assert_int_equal(kube_cache_count(r.cache), 2);
	run_until(r.loop, &r.seen.syncs, 3);
	assert_string_equal(r.seen.log,
	                    "bad:a bad:b add:c sync add:a good:a good:b bad:d bad: good:d sync del:a good: sync ");
	assert_null(kube_cache_first_bad(r.cache));
	server_stop(&r.server);
	rig_end(&r);
}

static void on_too_large(_unused_ const struct kube_cache *c, _unused_ const char *ns, const char *name,
                         const struct error *err, void *userdata) {
	assert_string_equal(name, "huge");
	assert_non_null(strstr(err->msg, "16384"));
	((struct seen *)userdata)->bad++;
}

static void count_endpoint(const struct kube_change *ch, void *userdata) {
	struct seen *s = userdata;
	s->events += ch->type != KUBE_SYNCED;
	s->syncs += ch->type == KUBE_SYNCED;
}

/* An Endpoint over the size limit is refused, whatever the server accepts. */
static void test_too_large(void **state) {
	(void)state;
	static char list[200000], event[200000], filler[60001];
	const struct step steps[] = {{"endpoints?limit=", NULL, list}, {"watch=true", NULL, event, true}, {NULL}};
	const char *spec =
		"\"spec\":{\"host\":\"h\",\"vtep\":\"fd00::1\",\"ip\":\"fd01::1\",\"mac\":\"02:00:00:00:00:01\"}";
	struct rig r;
	memset(filler, 'x', sizeof(filler) - 1);
	snprintf(
		list, sizeof(list),
		"{\"metadata\":{\"resourceVersion\":\"3\"},\"items\":[{\"metadata\":{\"name\":\"huge\","
		"\"resourceVersion\":\"1\","
		"\"annotations\":{\"a\":\"%s\"}},%s},{\"metadata\":{\"name\":\"good\",\"resourceVersion\":\"2\"},%s}]}",
		filler, spec, spec);
	snprintf(event, sizeof(event),
	         "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"huge\",\"resourceVersion\":\"4\","
	         "\"annotations\":"
	         "{\"a\":\"%s\"}},%s}}\n"
	         "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"more\",\"resourceVersion\":\"5\"},%s}}\n",
	         filler, spec, spec);
	rig_begin(&r, steps, &api_kind_endpoint, (struct kube_cache_options){.bad = on_too_large}, count_endpoint);
	run_until(r.loop, &r.seen.events, 2);
	assert_int_equal(r.seen.bad, 1);
	assert_int_equal(kube_cache_count(r.cache), 2);
	assert_non_null(kube_cache_get(r.cache, NULL, "good"));
	assert_non_null(kube_cache_get(r.cache, NULL, "more"));
	server_stop(&r.server);
	rig_end(&r);
}

static void write_kubeconfig(const char *path, const char *server) {
	_free_ char *text = strf("current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n"
	                         "clusters: [{name: c, cluster: {server: '%s'}}]\n",
	                         server);
	assert_int_equal(write_file_atomic(path, text, strlen(text), 0600, NULL), 0);
}

/* The kubeconfig names another server, whose versions can't be compared with those of the first. */
static void test_moved(void **state) {
	(void)state;
	static const struct step first[] = {
		{GET_LIST, NULL, LIST("900", INST("a", "u1", "800") "," INST("b", "u2", "801"))},
		{"resourceVersion=900", NULL, EV("MODIFIED", INST("a", "u1", "901")), true},
		{NULL},
	};
	static const struct step second[] = {
		{GET_LIST, NULL, LIST("6", INST("a", "v1", "5") "," INST("b", "u2", "4"))},
		{"resourceVersion=6", NULL, EV("MODIFIED", INST("a", "v1", "8")), true},
		{NULL},
	};
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	_cleanup_(cleanup_kube_client) struct kube_client *client = NULL;
	_free_ char *config = strf("/tmp/nacre-test-kube-%d.yaml", getpid());
	struct server s, t;
	struct seen seen = {0};
	struct error err;
	test_claim("dir", config);
	assert_int_equal(sd_event_new(&loop), 0);
	server_start(&s, first);
	server_start(&t, second);
	write_kubeconfig(config, s.url);
	if (kube_client_open(&client, loop, &(struct kube_access){.kubeconfig = config}, "test", &err) < 0)
		fail_msg("%s", err.msg);
	struct kube_cache *c;
	assert_int_equal(kube_cache_new(&c, client, &api_kind_instance, NULL, &err), 0);
	assert_int_equal(kube_cache_on_change(c, on_change, &seen), 0);
	run_until(loop, &seen.events, 4);
	/* An object that was fed must be replaced as well, although its version is higher. */
	static const char fed[] = INST("b", "u2", "950");
	struct api_errors errs = {0};
	void *obj;
	assert_int_equal(api_parse(&api_kind_instance, fed, strlen(fed), &obj, &errs), 0);
	kube_cache_feed(c, obj);
	assert_string_equal(seen.log, "add:a add:b sync mod:a mod:b ");
	seen.log[0] = '\0';
	write_kubeconfig(config, t.url);
	/* The next request, whichever it is, notices the change; the watch of the old server, which is still open,
	 * ends. */
	uint64_t deadline = now_monotonic_ns() + 60 * NSEC_PER_SEC;
	while (kube_client_moves(client) == 0) {
		assert_true(now_monotonic_ns() < deadline);
		usleep(20000);
	}
	run_until(loop, &t.done, 2);
	run_until(loop, &seen.syncs, 2);
	int events = seen.events;
	if (!strstr(seen.log, "sync mod:a"))
		run_until(loop, &seen.events, events + 1);
	assert_string_equal(seen.log, "del:a add:a mod:b sync mod:a ");
	const struct instance *i = kube_cache_get(c, "t", "a");
	assert_string_equal(i->meta.uid, "v1");
	assert_int_equal(kube_client_moves(client), 1);
	kube_cache_free(c);
	server_stop(&s);
	server_stop(&t);
	unlink(config);
}

/* Retry-After of a busy server is obeyed, before a list and within a watch. */
static void test_patience(void **state) {
	(void)state;
	static const struct step steps[] = {
		{GET_LIST, "429 Too Many Requests\r\nRetry-After: 3",
	         "{\"kind\":\"Status\",\"code\":429,\"reason\":\"TooManyRequests\",\"message\":\"wait\"}"},
		{GET_LIST, NULL, LIST("10", INST("a", "u1", "5"))},
		{"resourceVersion=10", "429 Too Many Requests\r\nRetry-After: 1", "{}"},
		/* The watch resumes at its last version: nothing is listed again. */
		{"resourceVersion=10", NULL,
	         EV("ADDED", INST("b", "u2", "11"))
	                 EV("ERROR", "{\"kind\":\"Status\",\"code\":429,\"reason\":\"TooManyRequests\"}")},
		{"resourceVersion=11", NULL, EV("ADDED", INST("c", "u3", "12")), true},
		{NULL},
	};
	struct rig r;
	rig_begin(&r, steps, &api_kind_instance, (struct kube_cache_options){0}, on_change);
	uint64_t began = now_monotonic_ns();
	run_until(r.loop, &r.seen.syncs, 1);
	assert_true(now_monotonic_ns() - began >= 3 * NSEC_PER_SEC);
	run_until(r.loop, &r.seen.events, 4);
	assert_string_equal(r.seen.log, "add:a sync add:b add:c ");
	server_stop(&r.server);
	rig_end(&r);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache), cmocka_unit_test(test_not_understood), cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_moved), cmocka_unit_test(test_patience),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
