/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"

#include <stdlib.h>

#include "controller/fit.h"
#include "controller/ranges.h"

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

	/* Values go round: what was given back comes last. */
	assert_int_equal(ranges_init(&r, 8), 0);
	assert_true(ranges_next(&r, &v));
	assert_int_equal(ranges_take(&r, v), 1);
	assert_int_equal(ranges_give(&r, v), 1);
	assert_true(ranges_next(&r, &v));
	assert_int_equal(v, 1);
	ranges_clear(&r);
}

/* Against the plainest model there is. */
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
		assert_int_equal(ranges_next(&r, &v), n_free > 0);
		assert_true(n_free == 0 || !used[v]);
		/* From every place the search finds what the model finds. */
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
		f[i] = (struct fit_host){&h[i].host, true, 4, 1024};
	}
	assert_int_equal(fit_choose(f, 0, &spec, &type, why), -1);
	assert_string_equal(why, "there are no hosts of role compute");
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 0); /* equal: the first */
	f[0].free_vcpus = 3;
	f[1].free_memory_mib = 1000;
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 2); /* the emptiest */
	/* Of hosts of unlike size the one with the larger share left. */
	h[3].capacity = (struct host_capacity){API_I64(64), API_I64(65536)};
	f[3].free_vcpus = 40;
	f[3].free_memory_mib = 40000;
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 3);

	/* What it reports past its operator's limits is not its size. */
	struct host_limits limits = {.vcpus = API_I64(32)};
	h[3].spec.limits = &limits;
	assert_true(host_exceeds_limits(&h[3].host));
	assert_int_equal(host_usable(&h[3].host).vcpus.v, 32);
	assert_int_equal(host_usable(&h[3].host).memory_mib.v, 65536);
	limits = (struct host_limits){.vcpus = API_I64(64), .memory_mib = API_I64(65536)};
	assert_false(host_exceeds_limits(&h[3].host));
	h[3].spec.limits = NULL;

	struct api_kv want = {(char *)"disk", (char *)"nvme"};
	spec.host_selector = (struct api_map){&want, 1};
	h[4].host.meta.labels = (struct api_map){&h[4].label, 1};
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 4);
	spec.host_selector = (struct api_map){0};

	f[0].alive = false;
	h[1].ready.status = (char *)"Unknown";
	h[2].spec.unschedulable = API_BOOL(true);
	f[3].free_vcpus = 1;
	f[4].free_memory_mib = 511;
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), -1);
	assert_string_equal(why,
	                    "0 of 5 hosts fit: 2 are not ready, 1 is unschedulable, 1 has too few vCPUs (free 1 at "
	                    "most, asked 2), 1 has too little memory (free 511 MiB at most, asked 512)");
	f[4].free_memory_mib = 512; /* exactly */
	assert_int_equal(fit_choose(f, 5, &spec, &type, why), 4);
	h[4].spec.role = (char *)"edge"; /* not counted */
	f[3].free_vcpus = -3;            /* promised more than there is: its agent came back with less */
	h[4].status.capacity = NULL;
	assert_int_equal(fit_choose(f + 3, 2, &spec, &type, why), -1);
	assert_string_equal(why, "0 of 1 host fits: 1 has too few vCPUs (free 0 at most, asked 2)");
	h[4].spec.role = NULL;
	assert_int_equal(fit_choose(f + 4, 1, &spec, &type, why), -1);
	assert_string_equal(why, "0 of 1 host fits: 1 is not ready");
}

/* All or none is for who asks to decide: it is told how many fit, and the hosts are filled as they will be. */
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
		f[i] = (struct fit_host){&h[i].host, true, 4, 1024};
	}
	assert_int_equal(fit_gang(f, 3, &spec, &type, 0, at, why), 0);
	/* Two on each, round about. */
	assert_int_equal(fit_gang(f, 3, &spec, &type, 6, at, why), 6);
	for (int i = 0; i < 6; i++)
		assert_int_equal(at[i], i % 3);
	for (int i = 0; i < 3; i++)
		assert_true(f[i].free_vcpus == 0 && f[i].free_memory_mib == 0);
	/* What is left on one doesn't help another. */
	f[0].free_vcpus = 3;
	f[1].free_memory_mib = 511;
	f[1].free_vcpus = 100;
	f[2].free_vcpus = 5;
	f[0].free_memory_mib = f[2].free_memory_mib = 4096;
	assert_int_equal(fit_gang(f, 3, &spec, &type, 8, at, why), 3);
	assert_int_equal(at[0], 2);
	assert_string_equal(why,
	                    "0 of 3 hosts fit: 2 have too few vCPUs (free 1 at most, asked 2), 1 has too little memory "
	                    "(free 511 MiB at most, asked 512)");
	h[0].spec.unschedulable = API_BOOL(true);
	f[0].free_vcpus = 100;
	assert_int_equal(fit_gang(f, 3, &spec, &type, 1, at, why), 0);
	assert_int_equal(fit_gang(f, 0, &spec, &type, 1, at, why), 0);
	assert_string_equal(why, "there are no hosts of role compute");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_ranges_random),
		cmocka_unit_test(test_fit),
		cmocka_unit_test(test_fit_gang),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
