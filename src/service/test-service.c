/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Balancer and delivery for tests/net, by commands on stdin, one a line; each is answered with "ok …" or "error
 * MESSAGE". balancer NETNS VTEP VNI NIC|-        opens it; "ok adopted", or "ok new" (with "-" it looks at no NIC)
 *   prefix P   set SLICE VTEP MAC   clear SLICE   begin   end   attach NIC native|generic   detach NIC   counters
 *   deliver NETNS DEVICE                 opens it, with the table of the program that runs
 *   put MAC IFINDEX   remove MAC   deliver-begin   deliver-end   deliver-attach   delivered
 */

#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "service/balancer.h"
#include "service/deliver.h"

#define WORDS 6

struct state {
	struct balancer *balancer;
	struct deliver *deliver;
};

static int netns_named(const char *name, struct error *err) {
	_free_ char *path = strf("/run/netns/%s", name);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	return fd < 0 ? error_errno(err, errno, "open `%s`", name) : fd;
}

static int do_balancer(struct state *s, char **w, struct buf *out, struct error *err) {
	const char *nic = w[4];
	int64_t vni;
	struct balancer_config c = {.nics = &nic, .n_nics = !streq(nic, "-")};
	_close_ int netns = netns_named(w[1], err);
	int r = netns;
	if (r >= 0)
		r = addr_parse(w[2], &c.vtep, err);
	if (r >= 0)
		r = parse_i64(w[3], 0, 1 << 24, &vni, err);
	if (r < 0)
		return r;
	c.netns_fd = netns;
	c.vni = (uint32_t)vni;
	s->balancer = balancer_free(s->balancer);
	r = balancer_open(&s->balancer, &c, err);
	if (r >= 0)
		buf_printf(out, balancer_is_adopted(s->balancer) ? "adopted" : "new");
	return r;
}

static int do_set(struct state *s, char **w, struct buf *out, struct error *err) {
	struct slice slice;
	struct balancer_endpoint e;
	int r = slice_parse(w[1], &slice, err);
	if (r >= 0)
		r = addr_parse(w[2], &e.vtep, err);
	if (r >= 0)
		r = mac_parse(w[3], &e.mac, err);
	return r < 0 ? r : balancer_set(s->balancer, &slice, &e, err);
}

static int do_clear(struct state *s, char **w, struct buf *out, struct error *err) {
	struct slice slice;
	int r = slice_parse(w[1], &slice, err);
	return r < 0 ? r : balancer_clear(s->balancer, &slice, err);
}

static int do_prefix(struct state *s, char **w, struct buf *out, struct error *err) {
	struct prefix p;
	int r = prefix_parse(w[1], &p, err);
	return r < 0 ? r : balancer_set_prefix(s->balancer, &p, err);
}

static int do_begin(struct state *s, char **w, struct buf *out, struct error *err) {
	balancer_begin(s->balancer);
	return 0;
}

static int do_end(struct state *s, char **w, struct buf *out, struct error *err) {
	return balancer_end(s->balancer, err);
}

static int do_attach(struct state *s, char **w, struct buf *out, struct error *err) {
	enum balancer_mode mode;
	int r = balancer_attach(s->balancer, w[1], streq(w[2], "native") ? BALANCER_NATIVE : BALANCER_GENERIC, &mode,
	                        err);
	if (r >= 0)
		buf_printf(out, "%s", balancer_mode_name(mode));
	return r;
}

static int do_detach(struct state *s, char **w, struct buf *out, struct error *err) {
	return balancer_detach(s->balancer, w[1], err);
}

static int do_counters(struct state *s, char **w, struct buf *out, struct error *err) {
	struct balancer_stats st;
	int r = balancer_stats(s->balancer, &st, err);
	for (unsigned i = 0; r >= 0 && i < BALANCER_COUNTERS; i++)
		buf_printf(out, "%s=%lu ", balancer_counter_name(i), st.packets[i]);
	return r;
}

static int do_deliver(struct state *s, char **w, struct buf *out, struct error *err) {
	_close_ int netns = netns_named(w[1], err);
	s->deliver = deliver_free(s->deliver);
	return netns < 0 ? netns : deliver_open(&s->deliver, netns, w[2], err);
}

static int do_put(struct state *s, char **w, struct buf *out, struct error *err) {
	struct mac mac;
	int64_t index;
	int r = mac_parse(w[1], &mac, err);
	if (r >= 0)
		r = parse_i64(w[2], 1, INT32_MAX, &index, err);
	return r < 0 ? r : deliver_put(s->deliver, &mac, (int)index, err);
}

static int do_remove(struct state *s, char **w, struct buf *out, struct error *err) {
	struct mac mac;
	int r = mac_parse(w[1], &mac, err);
	return r < 0 ? r : deliver_remove(s->deliver, &mac, err);
}

static int do_deliver_begin(struct state *s, char **w, struct buf *out, struct error *err) {
	deliver_begin(s->deliver);
	return 0;
}

static int do_deliver_end(struct state *s, char **w, struct buf *out, struct error *err) {
	return deliver_end(s->deliver, err);
}

static int do_deliver_attach(struct state *s, char **w, struct buf *out, struct error *err) {
	return deliver_attach(s->deliver, err);
}

static int do_delivered(struct state *s, char **w, struct buf *out, struct error *err) {
	uint64_t n;
	int r = deliver_count(s->deliver, &n, err);
	if (r >= 0)
		buf_printf(out, "%lu", n);
	return r;
}

static const struct {
	const char *name;
	int words;
	int (*call)(struct state *s, char **w, struct buf *out, struct error *err);
} commands[] = {
	{"balancer", 5, do_balancer},
	{"prefix", 2, do_prefix},
	{"set", 4, do_set},
	{"clear", 2, do_clear},
	{"begin", 1, do_begin},
	{"end", 1, do_end},
	{"attach", 3, do_attach},
	{"detach", 2, do_detach},
	{"counters", 1, do_counters},
	{"deliver", 3, do_deliver},
	{"put", 3, do_put},
	{"remove", 2, do_remove},
	{"deliver-begin", 1, do_deliver_begin},
	{"deliver-end", 1, do_deliver_end},
	{"deliver-attach", 1, do_deliver_attach},
	{"delivered", 1, do_delivered},
};

static int do_command(struct state *s, char *line, struct buf *out, struct error *err) {
	char *w[WORDS], *save = NULL;
	int n = 0;
	for (char *at = line; n < WORDS && (w[n] = strtok_r(at, " \n", &save)); at = NULL)
		n++;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (n == commands[i].words && streq(w[0], commands[i].name))
			return commands[i].call(s, w, out, err);
	return error_set(err, EINVAL, "no such command");
}

int main(void) {
	struct state s = {0};
	char line[256];
	while (fgets(line, sizeof(line), stdin)) {
		_buf_free_ struct buf out = {0};
		struct error error;
		if (do_command(&s, line, &out, &error) < 0)
			printf("error %s\n", error.msg);
		else
			printf("ok %s\n", out.len ? out.data : "");
		fflush(stdout);
	}
	balancer_free(s.balancer);
	deliver_free(s.deliver);
	return 0;
}
