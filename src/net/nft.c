/* SPDX-License-Identifier: Apache-2.0 */
#include "net/nft.h"

#include <nftables/libnftables.h>
#include <string.h>

#include "base/hash.h"
#include "base/util.h"
#include "net/netns.h"

#define RULESET_MAX (4U << 20)

struct run {
	const char *commands;
	unsigned hide; /* flags of nft_ctx_output_set_flags() */
	struct buf *out;
};

/* libnftables opens its netlink socket when it runs, so it must run inside the namespace. */
static int run_here(void *arg, struct error *err) {
	struct run *r = arg;
	struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!ctx)
		return error_oom(err);
	int res = 0;
	nft_ctx_output_set_flags(ctx, NFT_CTX_OUTPUT_STATELESS | r->hide);
	if (nft_ctx_buffer_output(ctx) != 0 || nft_ctx_buffer_error(ctx) != 0) {
		res = error_oom(err);
	} else if (nft_run_cmd_from_buffer(ctx, r->commands) != 0) {
		const char *text = nft_ctx_get_error_buffer(ctx);
		res = error_set(err, strstr(text, "No such file") ? ENOENT : EINVAL, "nftables: %.400s", text);
	} else if (r->out) {
		buf_puts(r->out, nft_ctx_get_output_buffer(ctx));
		res = buf_error(r->out, "nftables listing", err);
	}
	nft_ctx_free(ctx);
	return res;
}

int nft_apply(int netns_fd, const char *commands, struct error *err) {
	struct run r = {.commands = commands};
	return netns_run(netns_fd, run_here, &r, err);
}

static int list_table(int netns_fd, const char *family, const char *table, unsigned hide, struct buf *out,
                      struct error *err) {
	char command[128];
	struct run r = {.commands = command, .hide = hide, .out = out};
	snprintf(command, sizeof(command), "list table %s %s", family, table);
	return netns_run(netns_fd, run_here, &r, err);
}

int nft_list(int netns_fd, const char *family, const char *table, struct buf *out, struct error *err) {
	return list_table(netns_fd, family, table, 0, out, err);
}

/*
 * A hash of the wanted text and of the text that the kernel has, without what packets have put into sets. Both come
 * from root, so no attacker chooses them.
 * Each table is a run of its own: of several list commands nft 1.0.6 carries out only the last.
 */
static int fingerprint(int netns_fd, const struct nft_table *tables, size_t n, uint64_t *ret, struct error *err) {
	uint64_t hash = FNV1A_BASIS;
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++) {
		_buf_free_ struct buf now = {.max = RULESET_MAX};
		/* A terse listing shows the elements of anonymous sets. */
		r = list_table(netns_fd, tables[i].family, tables[i].name, tables[i].dynamic ? NFT_CTX_OUTPUT_TERSE : 0,
		               &now, err);
		hash = fnv1a(hash, tables[i].body, strlen(tables[i].body) + 1);
		if (r >= 0)
			hash = fnv1a(hash, now.data, now.len);
	}
	if (r >= 0)
		*ret = hash;
	return r;
}

enum replace_step { COVER, REPLACE, UNCOVER };

static int replace_step(int netns_fd, const struct nft_table *tables, size_t n, enum replace_step step,
                        struct error *err) {
	_buf_free_ struct buf text = {.max = RULESET_MAX};

	for (size_t i = 0; i < n; i++) {
		const char *family = tables[i].family, *name = step == REPLACE ? tables[i].name : tables[i].cover;
		if (!name)
			continue;
		/* Adding a table first makes its deletion succeed even if it did not exist. */
		buf_printf(&text, "table %s %s {}\ndelete table %s %s\n", family, name, family, name);
		if (step != UNCOVER)
			buf_printf(&text, "table %s %s {\n%s\n}\n", family, name, tables[i].body);
	}
	int r = buf_error(&text, "nftables ruleset", err);
	return r < 0 || !text.len ? r : nft_apply(netns_fd, text.data, err);
}

static int replace_tables(int netns_fd, const struct nft_table *tables, size_t n, struct error *err) {
	struct error ignored;
	int r = replace_step(netns_fd, tables, n, COVER, err);

	if (r < 0)
		return r;
	r = replace_step(netns_fd, tables, n, REPLACE, err);
	int uncovered = replace_step(netns_fd, tables, n, UNCOVER, r < 0 ? &ignored : err);
	return r < 0 ? r : uncovered;
}

int nft_ensure_tables(int netns_fd, const struct nft_table *tables, size_t n, uint64_t *state, bool *ret_changed,
                      struct error *err) {
	uint64_t now = 0;
	int r = fingerprint(netns_fd, tables, n, &now, err);
	if (r < 0 && r != -ENOENT)
		return r;
	bool change = r == -ENOENT || now != *state || *state == 0;
	if (change) {
		r = replace_tables(netns_fd, tables, n, err);
		if (r >= 0)
			r = fingerprint(netns_fd, tables, n, &now, err);
		if (r < 0)
			return r;
		*state = now;
	}
	if (ret_changed)
		*ret_changed = change;
	return 0;
}

int nft_ensure(int netns_fd, const char *family, const char *table, const char *body, uint64_t *state,
               bool *ret_changed, struct error *err) {
	return nft_ensure_tables(netns_fd, &(struct nft_table){family, table, body, .dynamic = false}, 1, state,
	                         ret_changed, err);
}
