/* SPDX-License-Identifier: Apache-2.0 */

/* When an instance asks for another slice of ports, gives one back, and counts as out of ports. */

#include "base/testing.h"

#include "base/util.h"
#include "node/ports.h"

static struct error error;
static uint64_t now;

static struct instnet_spec sharing(size_t n) {
	struct instnet_spec s;
	jt_init(&jt_instnet_spec, &s);
	s.ipv4 = INSTNET_SHARED;
	for (; s.n_slices < n; s.n_slices++) {
		struct instnet_slice *slice = &s.slices[s.n_slices];
		OK(addr_parse("198.51.100.3", &slice->address, &error));
		slice->first = 1024 + 512 * (int64_t)s.n_slices;
		slice->last = slice->first + 511;
	}
	return s;
}

/* A look in which USED ports were counted, REFUSED since the last one. */
static uint32_t note(struct ports *p, size_t n, uint32_t used, uint32_t refused, uint64_t seconds) {
	const struct instnet_spec s = sharing(n);
	const struct ports_look l = {.entries = used,
	                             .used = used,
	                             .open = used,
	                             .last = 0,
	                             .refused = p->last.refused + refused,
	                             .counted = true,
	                             .drained = p->open_slices != 0};
	now += seconds * NSEC_PER_SEC;
	return ports_note(p, &s, &l, now);
}

static void more_when_busy(void **state) {
	(void)state;
	struct ports p = {0};
	note(&p, 1, 383, 0, 5);
	assert_int_equal(p.wanted, 1);
	note(&p, 1, 384, 0, 5);
	assert_int_equal(p.wanted, 2);
	/* The controller gives it no more: it asks for no third one, and keeps asking for the second. */
	note(&p, 1, 500, 0, 5);
	note(&p, 1, 100, 0, 5);
	assert_int_equal(p.wanted, 2);
	note(&p, 2, 500, 0, 5);
	assert_int_equal(p.wanted, 2);
	note(&p, 2, 768, 0, 5);
	assert_int_equal(p.wanted, 3);
	assert_false(p.exhausted);
	note(&p, INSTNET_SLICES_MAX, 8192, 0, 5);
	assert_int_equal(p.wanted, INSTNET_SLICES_MAX);
}

static void refusals(void **state) {
	(void)state;
	struct ports p = {0};
	/* What happened before the first look is not news. */
	p.last.refused = 7;
	assert_int_equal(note(&p, 1, 400, 3, 5), 0);
	p = (struct ports){0};
	assert_int_equal(note(&p, 1, 10, 0, 5), 0);
	/* Packets that race, while ports are free. */
	assert_int_equal(note(&p, 1, 10, 4, 5), 4);
	assert_false(p.exhausted);
	assert_int_equal(p.wanted, 1);
	assert_int_equal(note(&p, 1, 300, 1, 5), 1);
	assert_true(p.exhausted);
	assert_int_equal(p.wanted, 2);
	/* It stays so for a minute, and for as long as most ports are in use. */
	note(&p, 1, 10, 0, 55);
	assert_true(p.exhausted);
	note(&p, 1, 500, 0, 10);
	assert_true(p.exhausted);
	note(&p, 1, 10, 0, 5);
	assert_false(p.exhausted);
	/* A new namespace counts from 0. */
	p.last.refused = 1000;
	const struct instnet_spec s = sharing(1);
	assert_int_equal(ports_note(&p, &s, &(struct ports_look){.refused = 2}, now), 0);
	assert_int_equal(p.last.refused, 2);
}

/* A guest can have its connections refused whenever it likes, and the list costs much. */
static void refusals_are_looked_into_now_and_then(void **state) {
	(void)state;
	struct ports p = {0};
	const struct instnet_spec s = sharing(1);
	struct ports_look l = {.entries = 300, .refused = 5};
	note(&p, 1, 9, 0, 5);
	assert_true(ports_must_count(&s, &p, &l, now + PORTS_BUSY_S * NSEC_PER_SEC));
	now += 5 * NSEC_PER_SEC;
	assert_false(ports_must_count(&s, &p, &l, now));
	assert_int_equal(ports_note(&p, &s, &l, now), 5);
	/* No new ones: those have not been looked into yet. */
	now += 5 * NSEC_PER_SEC;
	assert_true(ports_must_count(&s, &p, &l, now));
	l = (struct ports_look){.entries = 512, .used = 512, .open = 512, .refused = 5, .counted = true};
	assert_int_equal(ports_note(&p, &s, &l, now), 0);
	assert_true(p.exhausted);
	/* They have been looked into. */
	l.counted = false;
	assert_false(ports_must_count(&s, &p, &l, now + PORTS_BUSY_S * NSEC_PER_SEC - 1));
	l = (struct ports_look){.entries = 9, .refused = 6};
	assert_false(ports_must_count(&s, &p, &l, now + PORTS_COUNT_S * NSEC_PER_SEC));
	/* A new namespace counts from 0. */
	l.refused = 0;
	ports_note(&p, &s, &l, now);
	assert_int_equal(p.listed_refused, 0);
}

static void fewer_when_idle(void **state) {
	(void)state;
	struct ports p = {0};
	struct instnet_spec s = sharing(2);
	struct ports_look busy = {.entries = 9, .used = 9, .open = 9, .last = 1, .counted = true, .drained = true};
	note(&p, 2, 9, 0, 5);
	note(&p, 2, 9, 0, PORTS_LOW_S - 1);
	assert_int_equal(p.open_slices, 0);
	/* First new connections avoid the slice, */
	note(&p, 2, 9, 0, 5);
	assert_int_equal(p.open_slices, 1);
	assert_int_equal(p.wanted, 2);
	/* once the rules say so, */
	const struct ports_look early = {.entries = 9, .used = 9, .open = 9, .last = 0, .counted = true};
	now += 5 * NSEC_PER_SEC;
	ports_note(&p, &s, &early, now);
	ports_note(&p, &s, &(struct ports_look){0}, now);
	assert_int_equal(p.wanted, 2);
	/* then its last connection ends. Without a list nothing is known about it. */
	now += 5 * NSEC_PER_SEC;
	ports_note(&p, &s, &busy, now);
	busy.counted = false;
	ports_note(&p, &s, &busy, now);
	assert_int_equal(p.wanted, 2);
	note(&p, 2, 9, 0, 5);
	assert_int_equal(p.wanted, 1);
	note(&p, 1, 9, 0, 5);
	assert_int_equal(p.open_slices, 0);
	note(&p, 1, 9, 0, 2 * PORTS_LOW_S);
	assert_int_equal(p.wanted, 1);
}

static void use_that_returns(void **state) {
	(void)state;
	struct ports p = {0};
	note(&p, 2, 9, 0, 5);
	note(&p, 2, 9, 0, PORTS_LOW_S);
	assert_int_equal(p.open_slices, 1);
	/* Half of the slice that is open. */
	note(&p, 2, 256, 0, 5);
	assert_int_equal(p.open_slices, 0);
	/* The ten minutes begin again. */
	note(&p, 2, 9, 0, 5);
	note(&p, 2, 9, 0, PORTS_LOW_S - 1);
	assert_int_equal(p.open_slices, 0);
}

static void a_slice_with_a_forward_stays(void **state) {
	(void)state;
	struct ports p = {0};
	struct instnet_spec s = sharing(2);
	const struct ports_look idle = {.counted = true};
	s.forwards[s.n_forwards++] =
		(struct instnet_forward){.address = s.slices[1].address, .port = 1536, .target = 22};
	for (int k = 0; k < 10; k++) {
		now += PORTS_LOW_S * NSEC_PER_SEC;
		ports_note(&p, &s, &idle, now);
	}
	assert_int_equal(p.open_slices, 0);
	assert_int_equal(p.wanted, 2);
}

static void a_wish_that_was_not_granted_ends(void **state) {
	(void)state;
	struct ports p = {0};
	note(&p, 1, 500, 0, 5);
	assert_int_equal(p.wanted, 2);
	note(&p, 1, 9, 0, 5);
	note(&p, 1, 9, 0, PORTS_LOW_S);
	assert_int_equal(p.wanted, 1);
}

static void the_message_fits(void **state) {
	(void)state;
	char text[PORTS_MESSAGE_MAX];
	struct instnet_spec s = sharing(INSTNET_SLICES_MAX);
	for (size_t i = 0; i < s.n_slices; i++)
		OK(addr_parse("198.151.100.203", &s.slices[i].address, &error));
	ports_message(&s, text);
	assert_non_null(strstr(text, "share 8192 ports (slice 198.151.100.203:1024-1535 and 15 more)"));
	assert_string_equal(text + strlen(text) - strlen("AddressPool)"), "AddressPool)");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(more_when_busy),
		cmocka_unit_test(refusals),
		cmocka_unit_test(refusals_are_looked_into_now_and_then),
		cmocka_unit_test(fewer_when_idle),
		cmocka_unit_test(use_that_returns),
		cmocka_unit_test(a_slice_with_a_forward_stays),
		cmocka_unit_test(a_wish_that_was_not_granted_ends),
		cmocka_unit_test(the_message_fits),
	};
	return cmocka_run_group_tests_name("ports", tests, NULL, NULL);
}
