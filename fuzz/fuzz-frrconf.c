/* SPDX-License-Identifier: Apache-2.0 */

/* FRR's configuration: words for the functions that fill a model, or two texts separated by a NUL. */

#include "fuzz.h"

#include <string.h>
#include <sys/socket.h>

#include "net/frrconf.h"

static struct frrconf *make(enum frrconf_profile profile) {
	struct frrconf *c;
	CHECK(frrconf_new(&c, profile, NULL) == 0);
	return c;
}

static void same(const struct frrconf *a, const struct frrconf *b) {
	_buf_free_ struct buf steps = {0};
	CHECK(frrconf_diff(a, b, FRRCONF_BGPD, &steps, NULL) == 0);
	CHECK(frrconf_diff(b, a, FRRCONF_BGPD, &steps, NULL) == 0);
	CHECK(steps.len == 0);
}

/* A model that is printed and parsed must be the same model. */
static void print_and_parse(const struct frrconf *c) {
	_buf_free_ struct buf text = {0};
	_frrconf_free_ struct frrconf *again = make(FRRCONF_EMPTY);
	frrconf_print(c, FRRCONF_BGPD, &text);
	CHECK(frrconf_parse(again, FRRCONF_BGPD, text.data, NULL) == 0);
	same(c, again);
}

/* Each line must be one step, which is one command. */
static void check_steps(const struct frrconf *a, const struct frrconf *b) {
	_buf_free_ struct buf steps = {0};
	CHECK(frrconf_diff(a, b, FRRCONF_BGPD, &steps, NULL) == 0);
	for (const char *p = steps.data; p && *p; p += strcspn(p, "\n") + 1) {
		CHECK(strchr("\n -+", *p) && strchr(p, '\n'));
		for (size_t i = 0; p[i] != '\n'; i++)
			CHECK((uint8_t)p[i] >= ' ' && p[i] != 0x7f);
	}
}

static struct frrconf *parse(const char *text) {
	_frrconf_free_ struct frrconf *c = make(FRRCONF_EMPTY);
	struct error err = {0};
	if (frrconf_parse(c, FRRCONF_BGPD, text, &err) < 0) {
		CHECK(err.msg[0]);
		return NULL;
	}
	print_and_parse(c);
	return TAKE_PTR(c);
}

/* Whatever the words are, the number of lines and their beginnings must be ours. */
static void check_lines(const struct frrconf *c, unsigned max) {
	static const char *const begins[] = {
		"frr defaults", "ipv6 prefix-list", "bgp as-path", "router bgp 1",
		" bgp ",        " no bgp",          " neighbor ",  " address-family ipv6 unicast",
		"  neighbor "};
	_buf_free_ struct buf text = {0};
	unsigned n = 0;
	frrconf_print(c, FRRCONF_BGPD, &text);
	for (const char *p = text.data; *p; p += strcspn(p, "\n") + 1, n++) {
		bool known = false;
		for (size_t i = 0; i < ARRAY_SIZE(begins); i++)
			known |= strncmp(p, begins[i], strlen(begins[i])) == 0;
		CHECK(known);
	}
	CHECK(n <= max);
}

static void fill(char *words) {
	_frrconf_free_ struct frrconf *c = make(FRRCONF_DATACENTER);
	const struct prefix any = {.addr.family = AF_INET6};
	char *word[6];
	for (size_t i = 0; i < ARRAY_SIZE(word); i++) {
		word[i] = words;
		words += strcspn(words, "\1");
		if (*words)
			*words++ = 0;
	}
	frrconf_prefix_list_permit(c, word[0], 0, &any);
	frrconf_as_path_list_permit(c, word[1], 0, word[2]);
	frrconf_bgp(c, &(struct frrconf_bgp){.asn = 1, .router_id = 1});
	frrconf_neighbor(c,
	                 &(struct frrconf_neighbor){.name = word[3], .hold_s = 3, .connect_s = 1, .password = word[4]});
	frrconf_group_member(c, word[3], word[5]);
	frrconf_activate(c, AF_INET6, word[3],
	                 &(struct frrconf_activation){.prefix_list_in = word[0], .as_path_list_out = word[1]});
	struct error err = {0};
	CHECK(frrconf_error(c, &err) == 0 || err.msg[0]);
	check_lines(c, 17);
	print_and_parse(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_free_ char *text = malloc(size + 1);
	CHECK(text);
	if (size)
		memcpy(text, data, size);
	text[size] = 0;
	if (size && data[0] == 1) {
		fill(text + 1);
		return 0;
	}
	_frrconf_free_ struct frrconf *a = parse(text), *b = NULL;
	if (strlen(text) < size)
		b = parse(text + strlen(text) + 1);
	if (a && b)
		check_steps(a, b);
	return 0;
}
