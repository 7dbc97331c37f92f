/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <stdlib.h>

#include "controller/fit.h"
#include "controller/ranges.h"
#include "controller/slices.h"
#include "controller/waiters.h"

static void test_ranges(void **state) {
	(void)state;
	struct ranges r;
	uint64_t v;
	assert_int_equal(ranges_init(&r, 0), 0);
	assert_false(ranges_next(&r, &v));
	ranges_clear(&r);

	assert_int_equal(ranges_init(&r, 4), 0);
	for (uint64_t i = 0; i < 4; i++) {
		assert_true(ranges_next(&r, &v));
		assert_int_equal(v, i);
		assert_int_equal(ranges_take(&r, v), 1);
		assert_int_equal(ranges_take(&r, v), 0);
	}
	assert_false(ranges_next(&r, &v));
	assert_int_equal(ranges_give(&r, 2), 1);
	assert_int_equal(ranges_give(&r, 2), 0);
	assert_int_equal(ranges_give(&r, 4), 0); /* not of this pool */
	assert_true(ranges_next(&r, &v));
	assert_int_equal(v, 2);
	ranges_clear(&r);

	/* Values go round: a value that was given back is handed out last. */
	assert_int_equal(ranges_init(&r, 8), 0);
	assert_true(ranges_next(&r, &v));
	assert_int_equal(ranges_take(&r, v), 1);
	assert_int_equal(ranges_give(&r, v), 1);
	assert_true(ranges_next(&r, &v));
	assert_int_equal(v, 1);
	ranges_clear(&r);
}

/* Compares with a plain model. */
static void test_ranges_random(void **state) {
	(void)state;
	enum { N = 97 };
	bool used[N] = {false};
	uint64_t n_free = N, v;
	struct ranges r;
	srandom(1);
	assert_int_equal(ranges_init(&r, N), 0);
	for (int i = 0; i < 20000; i++) {
		uint64_t x = (uint64_t)random() % N;
		if (random() % 2) {
			assert_int_equal(ranges_take(&r, x), !used[x]);
			n_free -= !used[x];
			used[x] = true;
		} else {
			assert_int_equal(ranges_give(&r, x), used[x]);
			n_free += used[x];
			used[x] = false;
		}
		assert_int_equal(r.free, n_free);
		assert_int_equal(ranges_is_free(&r, x), !used[x]);
		assert_int_equal(ranges_next(&r, &v), n_free > 0);
		assert_true(n_free == 0 || !used[v]);
		/* From every starting value the search finds what the model finds. */
		for (uint64_t from = 0; n_free && i % 50 == 0 && from < N; from++) {
			uint64_t want = from;
			while (used[want % N])
				want++;
			r.next = from;
			assert_true(ranges_next(&r, &v));
			assert_int_equal(v, want % N);
		}
	}
	ranges_clear(&r);
}

/* ---- slices and forwards ---- */

/* Says in OUT where the forwards of N are: "tcp/22=198.51.100.3:1024 ". */
static const char *where(const struct instance *n, char out[static 512]) {
	size_t k = 0;
	out[0] = '\0';
	for (size_t i = 0; i < n->status->forwards.n; i++) {
		const struct instance_forwarded *f = &n->status->forwards.v[i];
		k += (size_t)snprintf(out + k, 512 - k, "%s%s/%d=%s:%d", i ? " " : "", f->protocol,
		                      (int)f->target_port.v, f->address, (int)f->port.v);
	}
	return out;
}

static void test_slices(void **state) {
	struct instance_status s = {0};
	struct instance_spec spec = {0};
	struct instance_forward f = {.protocol = (char *)"tcp", .target_port = API_I64(80)};
	char text[SLICES_TEXT_MAX];
	(void)state;
	assert_false(slices_have(NULL, "198.51.100.3:1024-1535"));
	assert_string_equal(slices_print(&s, text), "none");
	assert_int_equal(slices_pinned(&spec, &s), 0);
	assert_int_equal(slices_add(&s, "198.51.100.3"), -EINVAL);
	assert_int_equal(slices_add(&s, "198.51.100.3:1024-1535"), 0);
	assert_int_equal(slices_add(&s, "198.51.100.4:1024-1535"), 0);
	assert_int_equal(slices_add(&s, "198.51.100.3:2048-2559"), 0);
	assert_string_equal(s.public_ipv4, "198.51.100.3");
	assert_string_equal(slices_print(&s, text),
	                    "198.51.100.3:1024-1535, 198.51.100.4:1024-1535, 198.51.100.3:2048-2559");
	assert_true(slices_have(&s, "198.51.100.4:1024-1535"));
	assert_false(slices_have(&s, "198.51.100.4:2048-2559"));
	/* Slices stay up to the last one with a port that is named. */
	spec.forwards.v = &f;
	spec.forwards.n = 1;
	assert_int_equal(slices_pinned(&spec, &s), 1);
	f.port = API_I64(1100);
	assert_int_equal(slices_pinned(&spec, &s), 1);
	f.port = API_I64(2559);
	assert_int_equal(slices_pinned(&spec, &s), 3);
	f.port = API_I64(2560);
	assert_int_equal(slices_pinned(&spec, &s), 1);
	slices_trim(&s, 5);
	assert_int_equal(s.port_slices.n, 3);
	slices_trim(&s, 1);
	assert_string_equal(slices_print(&s, text), "198.51.100.3:1024-1535");
	/* The longest text. */
	slices_trim(&s, 0);
	for (int i = 0; i < ADDRESSPOOL_SLICES_MAX; i++)
		assert_int_equal(slices_add(&s, "198.251.100.103:10240-10303"), 0);
	assert_int_equal(strlen(slices_print(&s, text)), 16 * 27 + 15 * 2);
	api_clear(&api_desc_instance_status, &s);
}

static void test_forwards(void **state) {
	struct instance_forward f[INSTANCE_FORWARDS_MAX + 1] = {0};
	struct instance_spec spec = {.forwards = {f, 3}};
	struct instance_status s = {0};
	struct instance n = {.spec = &spec, .status = &s};
	char why[FORWARDS_MESSAGE_MAX], at[512];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(f); i++)
		f[i] = (struct instance_forward){.protocol = (char *)(i == 1 ? "udp" : "tcp"),
		                                 .target_port = API_I64((int64_t)i + 22)};
	assert_int_equal(forwards_update(&n, why), 0);
	assert_string_equal(why, "the instance has no slice of ports, which spec.forwards needs");
	assert_int_equal(slices_add(&s, "198.51.100.3:1024-1055"), 0);
	assert_int_equal(forwards_update(&n, why), 1);
	assert_string_equal(where(&n, at),
	                    "tcp/22=198.51.100.3:1024 udp/23=198.51.100.3:1024 tcp/24=198.51.100.3:1025");
	/* What is there stays, in whatever order; a named port is taken from it. */
	f[0].target_port = API_I64(80);
	f[1].port = API_I64(1050);
	assert_int_equal(forwards_update(&n, why), 1);
	assert_string_equal(where(&n, at),
	                    "tcp/80=198.51.100.3:1024 udp/23=198.51.100.3:1050 tcp/24=198.51.100.3:1025");
	f[1].protocol = (char *)"tcp";
	f[1].port = API_I64(1025);
	assert_int_equal(forwards_update(&n, why), 1);
	assert_string_equal(where(&n, at),
	                    "tcp/80=198.51.100.3:1024 tcp/23=198.51.100.3:1025 tcp/24=198.51.100.3:1026");
	/* A port of another slice may be named. The same port of two addresses: that of the first slice. */
	assert_int_equal(slices_add(&s, "198.51.100.4:1024-1087"), 0);
	f[1].port = API_I64(1060);
	assert_int_equal(forwards_update(&n, why), 1);
	assert_string_equal(where(&n, at),
	                    "tcp/80=198.51.100.3:1024 tcp/23=198.51.100.4:1060 tcp/24=198.51.100.3:1026");
	f[1].port = API_I64(1055);
	assert_int_equal(forwards_update(&n, why), 1);
	assert_string_equal(where(&n, at),
	                    "tcp/80=198.51.100.3:1024 tcp/23=198.51.100.3:1055 tcp/24=198.51.100.3:1026");
	/* One without a place doesn't keep others from theirs. */
	f[1].port = API_I64(80);
	assert_int_equal(forwards_update(&n, why), 0);
	assert_string_equal(why,
	                    "spec.forwards[1].port 80 is in no slice of ports of the instance; it has "
	                    "198.51.100.3:1024-1055, 198.51.100.4:1024-1087. Choose a port of these, or leave port "
	                    "out");
	assert_string_equal(where(&n, at), "tcp/80=198.51.100.3:1024 tcp/24=198.51.100.3:1026");
	/* A slice of as many ports as there may be forwards, with one port less. */
	spec.forwards.n = INSTANCE_FORWARDS_MAX;
	f[1].port = (struct api_i64){0};
	assert_int_equal(forwards_update(&n, why), 1);
	assert_int_equal(s.forwards.n, INSTANCE_FORWARDS_MAX);
	s.port_slices.v[0].last_port = API_I64(1054);
	assert_int_equal(forwards_update(&n, why), 0);
	assert_int_equal(s.forwards.n, INSTANCE_FORWARDS_MAX - 1);
	assert_non_null(strstr(why, "has no port: no port of the first slice is free"));
	/* Port 0 is no port. */
	spec.forwards.n = 1;
	slices_trim(&s, 0);
	assert_int_equal(slices_add(&s, "198.51.100.3:0-63"), 0);
	assert_int_equal(forwards_update(&n, why), 1);
	assert_string_equal(where(&n, at), "tcp/80=198.51.100.3:1");
	spec.forwards.n = 0;
	assert_int_equal(forwards_update(&n, why), 1);
	assert_int_equal(s.forwards.n, 0);
	api_clear(&api_desc_instance_status, &s);
}

struct played {
	struct host host;
	struct host_spec spec;
	struct host_status status;
	struct host_capacity capacity;
	struct api_condition ready;
	struct api_kv label;
};

/* A host that is ready and has 4 vCPUs and 1,024 MiB. */
static void play(struct played *p, const char *name) {
	*p = (struct played){.host = {.meta = {.name = (char *)name}, .spec = &p->spec, .status = &p->status},
	                     .capacity = {API_I64(4), API_I64(1024)},
	                     .ready = {.type = (char *)"Ready", .status = (char *)"True", .reason = (char *)"Ready"},
	                     .label = {(char *)"disk", (char *)"nvme"}};
	p->status.capacity = &p->capacity;
	p->status.conditions.v = &p->ready;
	p->status.conditions.n = 1;
}

/* Nothing is placed on the host. */
static void play_empty(struct fit_host *f, const struct played *p) {
	*f = (struct fit_host){.host = &p->host, .alive = true};
	host_usable(f->host, &f->usable);
	f->free = f->usable;
}

static void test_fit(void **state) {
	(void)state;
	struct played h[5];
	struct fit_host f[5];
	struct instance_spec spec = {0};
	struct instancetype_spec size = {API_I64(2), API_I64(512)};
	struct instancetype type = {.spec = &size};
	char why[FIT_MESSAGE_MAX];
	for (int i = 0; i < 5; i++) {
		play(&h[i], "h");
		play_empty(&f[i], &h[i]);
	}
	assert_int_equal(fit_choose(f, 0, &spec, &type, why), -1);
	assert_string_equal(why, "there are no hosts of role compute");
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 0); /* equal: the first */
	f[0].free.v[RESOURCE_vcpus] = 3;
	f[1].free.v[RESOURCE_memory_mib] = 1000;
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 2); /* the emptiest */
	/* Among hosts of different sizes, the host with the larger share left is chosen. */
	h[3].capacity = (struct host_capacity){API_I64(64), API_I64(65536)};
	host_usable(&h[3].host, &f[3].usable);
	f[3].free.v[RESOURCE_vcpus] = 40;
	f[3].free.v[RESOURCE_memory_mib] = 40000;
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 3);

	/* What a host reports beyond spec.limits doesn't count. */
	struct host_limits limits = {.vcpus = API_I64(32)};
	h[3].spec.limits = &limits;
	assert_true(host_exceeds_limits(&h[3].host));
	host_usable(&h[3].host, &f[3].usable);
	assert_int_equal(f[3].usable.v[RESOURCE_vcpus], 32);
	assert_int_equal(f[3].usable.v[RESOURCE_memory_mib], 65536);
	limits = (struct host_limits){.vcpus = API_I64(64), .memory_mib = API_I64(65536)};
	assert_false(host_exceeds_limits(&h[3].host));
	h[3].spec.limits = NULL;
	host_usable(&h[3].host, &f[3].usable);

	struct api_kv want = {(char *)"disk", (char *)"nvme"};
	spec.host_selector = (struct api_map){&want, 1};
	h[4].host.meta.labels = (struct api_map){&h[4].label, 1};
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 4);
	spec.host_selector = (struct api_map){0};

	f[0].alive = false;
	h[1].ready.status = (char *)"Unknown";
	h[2].spec.unschedulable = API_BOOL(true);
	f[3].free.v[RESOURCE_vcpus] = 1;
	f[4].free.v[RESOURCE_memory_mib] = 511;
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), -1);
	assert_string_equal(why,
	                    "0 of 5 hosts fit: 2 are not ready, 1 is unschedulable, 1 has too few vCPUs (free 1 at "
	                    "most, asked 2), 1 has too little memory (free 511 MiB at most, asked 512)");
	f[4].free.v[RESOURCE_memory_mib] = 512; /* exactly */
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 4);
	h[4].spec.role = (char *)"edge";  /* not counted */
	f[3].free.v[RESOURCE_vcpus] = -3; /* promised more than there is: its agent came back with less */
	h[4].status.capacity = NULL;
	assert_int_equal(fit_choose(f + 3, 2, &spec, &type, why), -1);
	assert_string_equal(why, "0 of 1 host fits: 1 has too few vCPUs (free 0 at most, asked 2)");
	h[4].spec.role = NULL;
	assert_int_equal(fit_choose(f + 4, 1, &spec, &type, why), -1);
	assert_string_equal(why, "0 of 1 host fits: 1 is not ready");
}

/* The caller decides about all or none: fit_gang() says how many fit and subtracts what they take from the hosts. */
static void test_fit_gang(void **state) {
	(void)state;
	struct played h[3];
	struct fit_host f[3];
	struct instance_spec spec = {0};
	struct instancetype_spec size = {API_I64(2), API_I64(512)};
	struct instancetype type = {.spec = &size};
	char why[FIT_MESSAGE_MAX];
	int at[8];
	for (int i = 0; i < 3; i++) {
		play(&h[i], "h");
		play_empty(&f[i], &h[i]);
	}
	assert_int_equal(fit_gang(f, 3, &spec, &type, 0, at, why), 0);
	/* Two on each host, in turn. */
	assert_int_equal(fit_gang(f, 3, &spec, &type, 6, at, why), 6);
	for (int i = 0; i < 6; i++)
		assert_int_equal(at[i], i % 3);
	for (int i = 0; i < 3; i++)
		assert_true(f[i].free.v[RESOURCE_vcpus] == 0 && f[i].free.v[RESOURCE_memory_mib] == 0);
	/* What is left on one host doesn't help another. */
	f[0].free.v[RESOURCE_vcpus] = 3;
	f[1].free.v[RESOURCE_memory_mib] = 511;
	f[1].free.v[RESOURCE_vcpus] = 100;
	f[2].free.v[RESOURCE_vcpus] = 5;
	f[0].free.v[RESOURCE_memory_mib] = f[2].free.v[RESOURCE_memory_mib] = 4096;
	assert_int_equal(fit_gang(f, 3, &spec, &type, 8, at, why), 3);
	assert_string_equal(why,
	                    "0 of 3 hosts fit: 2 have too few vCPUs (free 1 at most, asked 2), 1 has too little memory "
	                    "(free 511 MiB at most, asked 512)");
	h[0].spec.unschedulable = API_BOOL(true);
	f[0].free.v[RESOURCE_vcpus] = 100;
	assert_int_equal(fit_gang(f, 3, &spec, &type, 1, at, why), 0);
	assert_int_equal(fit_gang(f, 0, &spec, &type, 1, at, why), 0);
	assert_string_equal(why, "there are no hosts of role compute");
}

/*
 * A gang is placed as if fit_choose() placed its members one after the other. Hosts and sizes are chosen so that equal
 * scores, hosts that are full and gangs that don't fit are frequent.
 */
static void test_fit_gang_random(void **state) {
	(void)state;
	enum { HOSTS = 40, COUNT = 64 };
	static struct played h[HOSTS];
	static struct fit_host f[HOSTS], model[HOSTS];
	size_t whole = 0, none = 0;
	srandom(1);
	for (int round = 0; round < 4000; round++) {
		size_t n = (size_t)random() % (HOSTS + 1), count = (size_t)random() % (COUNT + 1), fit;
		struct instance_spec spec = {0};
		struct instancetype_spec one = {API_I64(1 + random() % 4), API_I64(128 << random() % 4)};
		struct instancetype type = {.spec = &one};
		const struct resources size = instancetype_size(&type);
		struct api_kv label = {(char *)"disk", (char *)"nvme"};
		char why[FIT_MESSAGE_MAX] = "", model_why[FIT_MESSAGE_MAX] = "";
		int at[COUNT];
		if (random() % 4 == 0)
			spec.host_selector = (struct api_map){&label, 1};
		for (size_t i = 0; i < n; i++) {
			play(&h[i], "h");
			h[i].capacity =
				(struct host_capacity){API_I64(random() % 3 * 8), API_I64(1024 << random() % 3)};
			h[i].spec.unschedulable = API_BOOL(random() % 8 == 0);
			h[i].spec.role = random() % 8 ? NULL : (char *)"edge";
			if (random() % 2)
				h[i].host.meta.labels = (struct api_map){&h[i].label, 1};
			play_empty(&f[i], &h[i]);
			f[i].alive = random() % 8;
			if (random() % 2) {
				f[i].free.v[RESOURCE_vcpus] -= random() % 12;
				f[i].free.v[RESOURCE_memory_mib] -= random() % 2048;
			}
			model[i] = f[i];
		}
		fit = fit_gang(f, n, &spec, &type, count, at, why);
		for (size_t i = 0; i < count; i++) {
			int best = fit_choose(model, n, &spec, &type, model_why);
			if (best < 0) {
				assert_int_equal(fit, i);
				break;
			}
			resources_subtract(&model[best].free, &size);
			if (fit == count)
				assert_int_equal(at[i], best);
		}
		assert_string_equal(why, model_why);
		for (size_t i = 0; i < n; i++)
			assert_true(resources_equal(&f[i].free, &model[i].free));
		whole += fit == count;
		none += fit < count;
	}
	assert_true(whole > 500 && none > 500);
}

/* ---- waiting for room ---- */

enum { PLAY_HOSTS = 3, PLAY_SIZES = 4, PLAY_MAX = 400 };

/* Hosts with places, and guests of sizes 1 to PLAY_SIZES that wait for them, run one, or are gone. */
struct play {
	struct waiters *ws;
	int left[PLAY_HOSTS];
	struct {
		int size, host; /* size 0: there is none; host -1: none */
	} guests[PLAY_MAX];
	int queue[4 * PLAY_MAX]; /* to be looked at, in order */
	size_t head, tail, woken, asked, ask_max;
	bool busy[PLAY_MAX]; /* it is being worked on, and is looked at only after that */
};

static void play_wait(struct play *p, int i) {
	char name[16], class[16];
	snprintf(name, sizeof(name), "g%04d", i);
	snprintf(class, sizeof(class), "%d", p->guests[i].size);
	waiters_add(p->ws, &(struct waiter){.queue = p,
	                                    .ns = "t",
	                                    .name = name,
	                                    .topic = "hosts",
	                                    .class = class,
	                                    .tag = class,
	                                    .created_us = (uint64_t)i});
}

/* As instance.c does: takes a place on the emptiest host, or waits. */
static void play_look(struct play *p, int i) {
	char name[16];
	int best = 0;
	snprintf(name, sizeof(name), "g%04d", i);
	waiters_looked_at(p->ws, p, "t", name);
	if (!p->guests[i].size || p->guests[i].host >= 0)
		return;
	for (int h = 1; h < PLAY_HOSTS; h++)
		if (p->left[h] > p->left[best])
			best = h;
	if (p->left[best] >= p->guests[i].size) {
		p->left[best] -= p->guests[i].size;
		p->guests[i].host = best;
	} else
		play_wait(p, i);
}

static bool play_usable(const struct waiter *w, const char *what, void *userdata) {
	struct play *p = userdata;
	p->asked++;
	return p->left[atoi(what)] >= atoi(w->class);
}

static bool play_wake(const struct waiter *w, void *userdata) {
	struct play *p = userdata;
	int i = atoi(w->name + 1);
	p->woken++;
	p->queue[p->tail++ % ARRAY_SIZE(p->queue)] = i;
	return !p->busy[i];
}

static const struct waiters_ops play_ops = {play_usable, play_wake};

/* Looks at one guest of the queue. False: the queue is empty. */
static bool play_step(struct play *p) {
	size_t asked = p->asked;
	do {
		waiters_wake(p->ws, &play_ops, p->ask_max ? p->ask_max : SIZE_MAX, p);
		assert_true(!p->ask_max || p->asked - asked <= p->ask_max);
		asked = p->asked;
	} while (waiters_pending(p->ws) && random() % 2);
	if (p->head == p->tail && waiters_pending(p->ws))
		return true;
	if (p->head == p->tail)
		return false;
	play_look(p, p->queue[p->head++ % ARRAY_SIZE(p->queue)]);
	return true;
}

static void play_free(struct play *p, int h, int size) {
	char what[16];
	snprintf(what, sizeof(what), "%d", h);
	p->left[h] += size;
	waiters_event(p->ws, "hosts", what);
}

/* The oldest waiter is woken, and only as many waiters as can use the event. */
static void test_waiters(void **state) {
	(void)state;
	struct play p = {.ws = waiters_new()};
	for (int i = 0; i < PLAY_MAX; i++) {
		p.guests[i].size = i % 2 ? 1 : 2;
		p.guests[i].host = -1;
		play_look(&p, i);
	}
	assert_int_equal(waiters_count(p.ws), PLAY_MAX);
	assert_false(play_step(&p));
	play_free(&p, 1, 1);
	assert_true(play_step(&p));
	assert_false(play_step(&p));
	assert_int_equal(p.guests[1].host, 1); /* the oldest that fits, not the oldest of all */
	assert_int_equal(p.woken, 1);
	play_free(&p, 1, 5);
	while (play_step(&p))
		;
	assert_true(p.guests[0].host == 1 && p.guests[2].host == 1 && p.guests[3].host == 1);
	assert_int_equal(p.woken, 4);
	assert_int_equal(p.left[1], 0);

	/* One that is gone, or takes another place, hands on what it was woken for. */
	play_free(&p, 0, 2);
	assert_int_equal(waiters_wake(p.ws, &play_ops, SIZE_MAX, &p), 1);
	assert_int_equal(waiters_wake(p.ws, &play_ops, SIZE_MAX, &p), 0); /* one at a time */
	p.guests[4].size = 0;
	p.left[2] = 9; /* without an event */
	while (play_step(&p))
		;
	assert_int_equal(p.guests[5].host, 2);
	assert_int_equal(p.left[0], 2 - 2);
	p.left[2] = 0;

	/* A waiter that was woken but finds nothing closes its class until something more becomes free. */
	size_t before = p.woken;
	for (int h = 0; h < PLAY_HOSTS; h++)
		p.left[h] = 0;
	play_free(&p, 0, 1);
	waiters_wake(p.ws, &play_ops, SIZE_MAX, &p);
	p.left[0] = 0;
	p.left[1] = 0;
	while (play_step(&p))
		;
	assert_int_equal(p.woken, before + 1);
	waiters_clear(p.ws);
	assert_int_equal(waiters_count(p.ws), 0);
	p.ws = waiters_free(p.ws);
}

/* After any sequence of changes no waiter would fit, and few were woken in vain. */
static void test_waiters_random(void **state) {
	(void)state;
	srandom(2);
	for (int round = 0; round < 200; round++) {
		struct play p = {.ws = waiters_new(), .ask_max = (size_t)(random() % 4)};
		size_t events = 0, placed = 0;
		for (int i = 0; i < PLAY_MAX; i++)
			p.guests[i].host = -1;
		for (int n = 0; n < 1000; n++) {
			int i = (int)(random() % PLAY_MAX), h = (int)(random() % PLAY_HOSTS);
			p.busy[random() % PLAY_MAX] = round % 2 && random() % 4 == 0;
			switch (random() % 5) {
			case 0:
			case 1: /* a guest comes, or changes and is looked at for that */
				if (!p.guests[i].size)
					p.guests[i].size = 1 + (int)(random() % PLAY_SIZES);
				play_look(&p, i);
				break;
			case 2: /* a guest goes; the waiters are looked at for that some time later */
				if (p.guests[i].host >= 0) {
					play_free(&p, p.guests[i].host, p.guests[i].size);
					events++;
				}
				p.guests[i].size = 0;
				p.guests[i].host = -1;
				p.queue[p.tail++ % ARRAY_SIZE(p.queue)] = i;
				break;
			case 3: /* a host grows; it may shrink without a word */
				play_free(&p, h, (int)(random() % 3));
				events++;
				p.left[(h + 1) % PLAY_HOSTS] -= (int)(random() % 2);
				break;
			default: play_step(&p);
			}
			while (p.tail - p.head > PLAY_MAX)
				play_step(&p);
		}
		while (play_step(&p))
			;
		for (int i = 0; i < PLAY_MAX; i++) {
			placed += p.guests[i].host >= 0;
			for (int h = 0; h < PLAY_HOSTS; h++)
				assert_true(!p.guests[i].size || p.guests[i].host >= 0 || p.guests[i].size > p.left[h]);
		}
		assert_true(round % 2 || p.woken <= placed + events * (PLAY_SIZES + 1));
		p.ws = waiters_free(p.ws);
	}
}

static bool always(const struct waiter *w, const char *what, void *userdata) {
	(void)w;
	(void)what;
	(void)userdata;
	return true;
}

static void note(const struct waiter *w, void *userdata) {
	size_t n = strlen(userdata);
	snprintf((char *)userdata + n, 64 - n, "%s", w->name);
}

static bool note_woken(const struct waiter *w, void *userdata) {
	*(char *)userdata = '\0';
	note(w, userdata);
	return true;
}

static void test_waiters_topics(void **state) {
	(void)state;
	const struct waiters_ops ops = {always, note_woken};
	struct waiters *ws = waiters_new();
	struct waiter w = {.queue = &ops, .ns = "t", .topic = "quota a", .class = "1", .tag = "small"};
	char got[64] = "";
	waiters_event(ws, "quota a", ""); /* before anybody waits: of no use to waiters that found nothing after it */
	w.name = "b";
	w.created_us = 2;
	waiters_add(ws, &w);
	w.name = "a";
	w.created_us = 3;
	waiters_add(ws, &w);
	w.name = "c";
	w.rank = 1;
	w.class = "9";
	w.tag = "large";
	waiters_add(ws, &w);
	w.name = "d";
	w.topic = "quota b";
	waiters_add(ws, &w);
	w.name = "first";
	w.topic = "quota a";
	w.class = "8";
	w.rank = 2;
	w.created_us = 4;
	waiters_add(ws, &w);
	assert_int_equal(waiters_wake(ws, &ops, SIZE_MAX, got), 0);
	waiters_event(ws, "quota a", "");
	assert_int_equal(waiters_wake(ws, &ops, SIZE_MAX, got), 1);
	assert_string_equal(got, "first");
	waiters_looked_at(ws, &ops, "t", "first");
	assert_int_equal(waiters_wake(ws, &ops, SIZE_MAX, got), 1);
	assert_string_equal(got, "c");
	waiters_looked_at(ws, &ops, "t", "c");
	assert_int_equal(waiters_wake(ws, &ops, SIZE_MAX, got), 1);
	assert_string_equal(got, "b");
	waiters_looked_at(ws, &ops, "t", "b");
	/* The waiter waits again: its class is skipped, including the member that was not looked at. */
	w = (struct waiter){.queue = &ops, .ns = "t", .name = "b", .topic = "quota a", .class = "1", .tag = "small"};
	waiters_add(ws, &w);
	assert_int_equal(waiters_wake(ws, &ops, SIZE_MAX, got), 0);
	waiters_event_all(ws, "quota ", "");
	assert_int_equal(waiters_wake(ws, &ops, SIZE_MAX, got), 2); /* one of each topic */
	waiters_looked_at(ws, &ops, "t", "b");
	waiters_looked_at(ws, &ops, "t", "d");
	assert_int_equal(waiters_wake(ws, &ops, SIZE_MAX, got), 1);
	assert_string_equal(got, "a");
	/* A waiter is looked at anew if something has changed, and the next one only after that look. */
	w.name = "e";
	waiters_add(ws, &w);
	got[0] = '\0';
	waiters_refresh(ws, note, got);
	assert_string_equal(got, "");
	waiters_changed(ws);
	waiters_refresh(ws, note, got);
	assert_string_equal(got, "a");
	got[0] = '\0';
	waiters_refresh(ws, note, got);
	assert_string_equal(got, "");
	waiters_looked_at(ws, &ops, "t", "a");
	waiters_refresh(ws, note, got);
	assert_string_equal(got, "e");
	w.topic = "quota c";
	waiters_add(ws, &w);
	assert_int_equal(waiters_count(ws), 1);
	got[0] = '\0';
	waiters_each(ws, "large", note, got);
	assert_string_equal(got, "");
	waiters_each(ws, "small", note, got); /* also one that was woken and not looked at yet */
	assert_string_equal(got, "e");
	waiters_free(ws);
}

struct asked {
	size_t n;
	const char *usable; /* classes whose names end like this */
	char woken[64];
};

static bool ask(const struct waiter *w, const char *what, void *userdata) {
	struct asked *a = userdata;
	size_t n = strlen(w->class), m = strlen(a->usable);
	(void)what;
	a->n++;
	return n >= m && strcmp(w->class + n - m, a->usable) == 0;
}

static bool ask_wake(const struct waiter *w, void *userdata) {
	return note_woken(w, ((struct asked *)userdata)->woken);
}

/* However many classes there are: a turn asks only as many as it is told to, and an event asks each class once. */
static void test_waiters_classes(void **state) {
	(void)state;
	enum { CLASSES = 1000, MAX = 16 };
	const struct waiters_ops ops = {ask, ask_wake};
	struct waiters *ws = waiters_new();
	struct asked a = {.usable = "9"};
	size_t woken = 0;
	for (int i = 0; i < 2 * CLASSES; i++) {
		char name[16], class[16];
		snprintf(name, sizeof(name), "w%04d", i);
		snprintf(class, sizeof(class), "%d", i % CLASSES);
		waiters_add(ws, &(struct waiter){.queue = ws,
		                                 .ns = "t",
		                                 .name = name,
		                                 .topic = "hosts",
		                                 .class = class,
		                                 .tag = "x",
		                                 .created_us = (uint64_t)i});
	}
	waiters_event(ws, "hosts", "h");
	/* Every waiter that is woken takes what it needs and is gone: those of classes 9, 19, …, by age, then again. */
	while (waiters_pending(ws)) {
		char want[16];
		size_t before = a.n;
		snprintf(want, sizeof(want), "w%04zu", 9 + 10 * woken);
		if (waiters_wake(ws, &ops, MAX, &a)) {
			assert_string_equal(a.woken, want);
			waiters_looked_at(ws, ws, "t", a.woken);
			woken++;
		}
		assert_true(a.n - before <= MAX);
	}
	assert_int_equal(woken, 2 * CLASSES / 10);
	assert_int_equal(a.n, CLASSES + 2 * CLASSES / 10 - CLASSES / 10);
	/* An event that is repeated in each turn asks all classes all the same, and then once more. */
	a = (struct asked){.usable = "x"};
	for (int i = 0; i < CLASSES * 9 / 10 / MAX; i++) {
		waiters_event(ws, "hosts", "h");
		assert_int_equal(waiters_wake(ws, &ops, MAX, &a), 0);
	}
	a.usable = "98"; /* of the last classes: its oldest waiter that is left */
	waiters_event(ws, "hosts", "h");
	assert_int_equal(waiters_wake(ws, &ops, MAX, &a), 1);
	assert_string_equal(a.woken, "w0998");
	waiters_looked_at(ws, ws, "t", "w0998");
	a = (struct asked){.usable = "0"};
	assert_int_equal(waiters_wake(ws, &ops, MAX, &a), 1);
	assert_string_equal(a.woken, "w0000");
	waiters_free(ws);
}

static bool note_busy(const struct waiter *w, void *userdata) {
	note(w, userdata);
	return *w->name != 'a' && *w->name != 'b';
}

/* A waiter that is being worked on is woken, and holds up nobody until it is looked at. */
static void test_waiters_busy(void **state) {
	(void)state;
	const struct waiters_ops ops = {always, note_busy};
	struct waiters *ws = waiters_new();
	char got[64] = "";
	for (char name[] = "d"; *name >= 'a'; --*name)
		waiters_add(ws, &(struct waiter){.queue = ws,
		                                 .ns = "t",
		                                 .name = name,
		                                 .topic = "hosts",
		                                 .class = *name % 2 ? "odd" : "even",
		                                 .tag = "x",
		                                 .created_us = (uint64_t)*name});
	waiters_each(ws, "x", note, got);
	assert_string_equal(got, "abcd"); /* by age */
	got[0] = '\0';
	waiters_event(ws, "hosts", "h");
	assert_int_equal(waiters_wake(ws, &ops, SIZE_MAX, got), 3);
	assert_string_equal(got, "abc");
	assert_false(waiters_pending(ws)); /* c is first */
	waiters_looked_at(ws, ws, "t", "c");
	assert_true(waiters_pending(ws));
	waiters_looked_at(ws, ws, "t", "a");
	assert_int_equal(waiters_wake(ws, &ops, SIZE_MAX, got), 1);
	assert_string_equal(got, "abcd");
	waiters_looked_at(ws, ws, "t", "d");
	waiters_looked_at(ws, ws, "t", "b");
	assert_false(waiters_pending(ws));
	assert_int_equal(waiters_count(ws), 0);
	waiters_free(ws);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_ranges_random),
		cmocka_unit_test(test_slices),
		cmocka_unit_test(test_forwards),
		cmocka_unit_test(test_fit),
		cmocka_unit_test(test_fit_gang),
		cmocka_unit_test(test_fit_gang_random),
		cmocka_unit_test(test_waiters),
		cmocka_unit_test(test_waiters_random),
		cmocka_unit_test(test_waiters_topics),
		cmocka_unit_test(test_waiters_classes),
		cmocka_unit_test(test_waiters_busy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
