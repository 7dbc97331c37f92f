/* SPDX-License-Identifier: Apache-2.0 */

/* The members of groups. */

#include "base/testing.h"

#include <malloc.h>

#include "base/util.h"
#include "node/groups.h"

#define A          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B          "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ROUTES_MAX 8

static struct error error;

/* An Endpoint with the routes (ends in NULL) and the groups. */
struct made {
	struct endpoint e;
	struct endpoint_spec spec;
	struct endpoint_status status;
	struct endpoint_route routes[ROUTES_MAX];
	char *groups[2];
};

static void endpoint_make(struct made *m, const char *const *routes, const char *a, const char *b) {
	*m = (struct made){0};
	m->e.spec = &m->spec;
	m->e.status = &m->status;
	m->spec.routes.v = m->routes;
	m->status.groups.v = m->groups;
	for (; *routes; routes++)
		m->routes[m->spec.routes.n++].prefix = (char *)*routes;
	if (a)
		m->groups[m->status.groups.n++] = (char *)a;
	if (b)
		m->groups[m->status.groups.n++] = (char *)b;
}

static void set_ports(struct made *m, size_t i, int64_t first, int64_t last) {
	m->routes[i].first_port = API_I64(first);
	m->routes[i].last_port = API_I64(last);
}

static struct groups *new_groups(void) {
	struct groups *g;

	OK(groups_new(&g, &error));
	return g;
}

struct listed {
	size_t n;
	struct group_element v[16];
};

static void list_element(const struct group_element *e, void *userdata) {
	struct listed *l = userdata;

	if (l->n < ARRAY_SIZE(l->v))
		l->v[l->n++] = *e;
}

static void addresses_are_listed_by_class(void **state) {
	(void)state;
	struct groups *g = new_groups();
	struct listed l = {0};
	struct made m;

	endpoint_make(
		&m, (const char *[]){"2001:db8:2::/60", "198.51.100.3/32", "2001:db8:1:1::/64", "203.0.113.7/32", NULL},
		A, B);
	set_ports(&m, 1, 1024, 1535);
	groups_endpoint(g, NULL, &m.e);
	assert_int_equal(groups_count(g, A), 4);
	assert_int_equal(groups_count(g, B), 4);
	assert_int_equal(groups_seq(g), 8);
	groups_each(g, A, list_element, &l);
	assert_int_equal(l.n, 4);
	assert_int_equal(l.v[0].prefix.len, 32);
	assert_int_equal(l.v[0].port_bits, 0);
	assert_int_equal(l.v[1].port_bits, 7);
	assert_int_equal(l.v[1].port, 1024);
	assert_int_equal(l.v[2].prefix.len, 60);
	assert_int_equal(l.v[3].prefix.len, 64);
	groups_endpoint(g, &m.e, NULL);
	assert_int_equal(groups_count(g, A), 0);
	groups_free(g);
}

static void other_routes_are_no_elements(void **state) {
	(void)state;
	struct groups *g = new_groups();
	struct made m;

	endpoint_make(&m,
	              (const char *[]){"::/0", "0.0.0.0/0", "10.0.0.0/8", "2001:db8::1/128", "2000::/16", "x",
	                               "198.51.100.3/32", NULL},
	              A, "short");
	set_ports(&m, 6, 1025, 1535); /* not aligned */
	groups_endpoint(g, NULL, &m.e);
	assert_int_equal(groups_count(g, A), 0);
	assert_int_equal(groups_seq(g), 0);
	m.e.status = NULL;
	groups_endpoint(g, NULL, &m.e);
	groups_free(g);
}

/* An address that two Endpoints have is a member until both are gone. */
static void duplicates_are_counted(void **state) {
	(void)state;
	struct groups *g = new_groups();
	struct made one, two;

	endpoint_make(&one, (const char *[]){"2001:db8:1:1::/64", "2001:db8:1:1::/64", NULL}, A, A);
	endpoint_make(&two, (const char *[]){"2001:db8:1:1::/64", NULL}, A, NULL);
	groups_endpoint(g, NULL, &one.e);
	groups_endpoint(g, NULL, &two.e);
	assert_int_equal(groups_count(g, A), 1);
	assert_int_equal(groups_seq(g), 1);
	groups_endpoint(g, &one.e, NULL);
	assert_int_equal(groups_count(g, A), 1);
	assert_int_equal(groups_seq(g), 1);
	groups_endpoint(g, &two.e, NULL);
	assert_int_equal(groups_count(g, A), 0);
	assert_int_equal(groups_seq(g), 2);
	/* What was never there is not removed. */
	groups_endpoint(g, &two.e, NULL);
	assert_int_equal(groups_seq(g), 2);
	groups_free(g);
}

struct changed {
	size_t n;
	struct group_change last;
};

static void take_change(const struct group_change *c, void *userdata) {
	struct changed *all = userdata;

	assert_true(c->seq > all->last.seq);
	all->last = *c;
	all->n++;
}

static void a_change_is_what_differs(void **state) {
	(void)state;
	struct groups *g = new_groups();
	struct made before, after;

	endpoint_make(&before, (const char *[]){"2001:db8:1:1::/64", "203.0.113.7/32", NULL}, A, NULL);
	endpoint_make(&after, (const char *[]){"2001:db8:1:1::/64", "203.0.113.8/32", NULL}, A, B);
	groups_endpoint(g, NULL, &before.e);
	groups_endpoint(g, &before.e, &after.e);
	/* Two in B, .8 into A, .7 out of A. */
	assert_int_equal(groups_seq(g), 2 + 4);
	struct changed c = {0};
	assert_int_equal(groups_changes(g, A, 5, take_change, &c), 0);
	assert_int_equal(c.n, 1);
	assert_true(c.last.removed);
	assert_int_equal(c.last.seq, 6);
	assert_int_equal(c.last.element.prefix.addr.bytes[3], 7);
	groups_endpoint(g, &after.e, &after.e);
	assert_int_equal(groups_seq(g), 6);
	groups_free(g);
}

static size_t count_changes(const struct groups *g, const char *id, uint64_t since) {
	struct changed c = {0};

	return groups_changes(g, id, since, take_change, &c) == 0 ? c.n : SIZE_MAX;
}

static void come_and_go(struct groups *g, const struct made *m, int times) {
	for (int i = 0; i < times; i++) {
		groups_endpoint(g, NULL, &m->e);
		groups_endpoint(g, &m->e, NULL);
	}
}

static void old_changes_are_forgotten(void **state) {
	(void)state;
	struct groups *g = new_groups();
	struct made m;

	endpoint_make(&m, (const char *[]){"2001:db8:1:1::/64", NULL}, A, NULL);
	assert_int_equal(count_changes(g, A, 0), 0);
	come_and_go(g, &m, GROUPS_CHANGES);
	assert_int_equal(groups_seq(g), 2 * GROUPS_CHANGES);
	assert_int_equal(count_changes(g, A, GROUPS_CHANGES - 1), SIZE_MAX);
	assert_int_equal(count_changes(g, A, GROUPS_CHANGES), GROUPS_CHANGES);
	assert_int_equal(count_changes(g, A, 2 * GROUPS_CHANGES), 0);
	groups_free(g);
}

/* However much others change, what a group remembers is its own. */
static void other_groups_change(void **state) {
	(void)state;
	struct groups *g = new_groups();
	struct made one, other;

	endpoint_make(&one, (const char *[]){"2001:db8:1:1::/64", NULL}, A, NULL);
	endpoint_make(&other, (const char *[]){"2001:db8:1:2::/64", NULL}, B, NULL);
	groups_endpoint(g, NULL, &one.e);
	come_and_go(g, &other, GROUPS_RING);
	assert_int_equal(count_changes(g, A, 0), 1);
	assert_int_equal(count_changes(g, A, 1), 0);
	/* Nor does it matter whether it has members. */
	groups_endpoint(g, &one.e, NULL);
	come_and_go(g, &other, GROUPS_RING);
	assert_int_equal(count_changes(g, A, 1), 1);
	groups_free(g);
}

/* Groups without members are forgotten at some time, and then nobody knows whether one had changes. */
static void empty_groups_are_forgotten(void **state) {
	(void)state;
	struct groups *g = new_groups();
	struct made m;
	char id[GROUP_ID_LEN + 1];

	for (int i = 0; i < GROUPS_EMPTY + 2; i++) {
		snprintf(id, sizeof(id), "%032x", (unsigned)i);
		endpoint_make(&m, (const char *[]){"2001:db8:1:1::/64", NULL}, id, NULL);
		come_and_go(g, &m, 1);
	}
	assert_int_equal(count_changes(g, "00000000000000000000000000000001", 3), SIZE_MAX);
	assert_int_equal(count_changes(g, "00000000000000000000000000000001", 4), 0);
	assert_int_equal(count_changes(g, "00000000000000000000000000000002", 0), 2);
	groups_free(g);
}

static void member_make(struct made *m, unsigned i) {
	static char prefix[PREFIX_STR_MAX];

	snprintf(prefix, sizeof(prefix), "2001:db8:%x:%x::/64", 1 + (i >> 14), 1 + (i & 0x3fff));
	endpoint_make(m, (const char *[]){prefix, NULL}, A, NULL);
}

/* Only sizes are asserted; the time is printed. */
static void a_hundred_thousand_members(void **state) {
	(void)state;
	const unsigned n = 100000, changes = 20000;
	struct groups *g = new_groups();
	size_t before = mallinfo2().uordblks;
	struct made m;

	for (unsigned i = 0; i < n; i++) {
		member_make(&m, i);
		groups_endpoint(g, NULL, &m.e);
	}
	assert_int_equal(groups_count(g, A), n);
	size_t bytes = (mallinfo2().uordblks - before) / n;
	uint64_t began = now_monotonic_ns();
	for (unsigned i = 0; i < changes; i++) {
		member_make(&m, i);
		groups_endpoint(g, &m.e, NULL);
	}
	print_message("%zu bytes a member, %llu ns a change\n", bytes,
	              (unsigned long long)(now_monotonic_ns() - began) / changes);
	/* Sanitizers have their own allocator. */
	assert_true(bytes <= 128);
	groups_free(g);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_listed_by_class), cmocka_unit_test(other_routes_are_no_elements),
		cmocka_unit_test(duplicates_are_counted),        cmocka_unit_test(a_change_is_what_differs),
		cmocka_unit_test(old_changes_are_forgotten),     cmocka_unit_test(other_groups_change),
		cmocka_unit_test(empty_groups_are_forgotten),    cmocka_unit_test(a_hundred_thousand_members),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
