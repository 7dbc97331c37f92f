/* SPDX-License-Identifier: Apache-2.0 */

/* Makes docs/api.md from the tables. */

#include <string.h>

#include "api/agents.h"
#include "api/roles.h"
#include "api/schema.h"
#include "base/util.h"

static const char *type_name(const struct api_field *f) {
	switch (f->type) {
	case API_TYPE_str: return f->format->name;
	case API_TYPE_i64: return "integer";
	case API_TYPE_flag: return "boolean";
	case API_TYPE_obj:
	case API_TYPE_inl: return "object";
	case API_TYPE_list: return "list of objects";
	case API_TYPE_strs: return "list of strings";
	case API_TYPE_map: return "map of strings";
	case API_TYPE_raw: return "any";
	}
	return "";
}

static void bounds(const struct api_field *f, struct buf *out) {
	if (f->type == API_TYPE_i64 && (f->min || f->max)) {
		if (f->max == INT64_MAX)
			buf_printf(out, " %lld or more.", (long long)f->min);
		else
			buf_printf(out, " %lld to %lld.", (long long)f->min, (long long)f->max);
	} else if (f->type == API_TYPE_list || f->type == API_TYPE_strs || f->type == API_TYPE_map)
		buf_printf(out, " At most %lld.", (long long)f->max);
	else if (f->type == API_TYPE_str && f->format->values) {
		buf_puts(out, " One of");
		for (const char *const *v = f->format->values; *v; v++)
			buf_printf(out, "%s `%s`", v == f->format->values ? "" : ",", *v);
		buf_puts(out, ".");
	}
	if (f->def)
		buf_printf(out, " Default `%s`.", f->def);
	if (f->flags & API_REQ)
		buf_puts(out, " **Required.**");
	if (f->flags & API_IMMUT)
		buf_puts(out, " Immutable.");
}

static void fields(const struct api_desc *d, const char *path, struct buf *out) {
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct api_field *f = &d->fields[i];
		_free_ char *here =
			strf("%s%s%s%s", path, *path ? "." : "", f->name, f->type == API_TYPE_list ? "[]" : "");
		if (!here) {
			out->failed = true;
			return;
		}
		if (strcmp(here, "metadata") == 0)
			continue;
		buf_printf(out, "| `%s` | %s | %s", here, type_name(f), f->doc);
		bounds(f, out);
		buf_puts(out, " |\n");
		if (f->sub)
			fields(f->sub, here, out);
	}
}

/* ---- who may do what ---- */

static void grant_row(const struct api_kind *k, const struct access_grant *g, void *userdata) {
	struct buf *out = userdata;
	const char *parts = g->parts, *part, *verbs = g->verbs, *verb;
	buf_printf(out, "| `%s` |", roles_name(g->role));
	for (size_t n; (part = access_next_word(&parts, &n));) {
		const bool itself = n == 1 && *part == '.';
		buf_printf(out, " `%s%s%.*s`", k->plural, itself ? "" : "/", itself ? 0 : (int)n, part);
	}
	if (g->ns)
		buf_printf(out, " in `%s`", g->ns);
	buf_puts(out, " |");
	for (size_t n; (verb = access_next_word(&verbs, &n));)
		buf_printf(out, " %.*s", (int)n, verb);
	buf_puts(out, " |\n");
}

/* WORDS is a list as in struct access_agents. */
static void members(struct buf *out, const char *begin, const char *words, const char *end) {
	if (!words || streq(words, "*"))
		return;
	buf_puts(out, begin);
	if (*words)
		access_print_words(out, words, "`");
	else
		buf_puts(out, "nothing");
	buf_puts(out, end);
}

static void agents(const struct api_kind *k, struct buf *out) {
	const struct access_agents *g = &k->access->agents;
	if (!g->whose)
		return;
	buf_puts(out, "\nThe agents of ");
	agents_print_plural(out, g->whose);
	if (g->sees) {
		buf_printf(out, " get only %s.\n", g->sees_only);
		return;
	}
	if (!g->own) {
		buf_puts(out, " see all.\n");
		return;
	}
	buf_printf(out, " %swrite those whose `%s` is %s%s%sthe name of their Host.",
	           !g->reads     ? ""
	           : g->sees_all ? "see all, and "
	                         : "see and ",
	           g->own, g->own_prefix ? "`" : "", g->own_prefix ? g->own_prefix : "", g->own_prefix ? "` and " : "");
	members(out, " In the spec of a new one they set only ", g->creates, ".");
	members(out, " In the spec they change ", g->updates, ".");
	members(out, " In the status they change ", g->status, ".");
	if (g->max_bytes)
		buf_printf(out, " What they write may take %zu bytes.", g->max_bytes);
	buf_puts(out, "\n");
	for (const struct access_rule *r = g->rules; r && r->whose; r++) {
		buf_printf(out, "%s- The agent of ", r == g->rules ? "\n" : "");
		agents_print_one(out, r->whose);
		buf_printf(out, " %s%s.\n", r->says, r->cel ? "" : " (nacre-apiserver only)");
	}
}

static void access_section(const struct api_kind *k, struct buf *out) {
	buf_puts(out, "\n| role | resources | verbs |\n|---|---|---|\n");
	access_each_grant(k, grant_row, out);
	agents(k, out);
}

static void kubernetes_kinds(struct buf *out) {
	buf_puts(out,
	         "\n## Kinds of Kubernetes\n\nAccess to the kinds of Kubernetes itself that Nacre's programs use.\n");
	for (const struct api_kind *const *k = api_kinds; *k; k++) {
		if (!(*k)->access->agents.whose || strcmp((*k)->group, "nacre.dev") == 0)
			continue;
		buf_printf(out, "\n### %s\n", (*k)->kind);
		access_section(*k, out);
	}
}

int api_reference(struct buf *out, struct error *err) {
	buf_puts(
		out,
		"# API reference\n\nGenerated from the declarations in `src/api` by `nacre reference`; do not edit.\n\n"
		"All kinds are in group `nacre.dev`, version `v1alpha1`, and have the standard `metadata`. Ranges are "
		"inclusive at both ends.\nAddresses and prefixes are written in their canonical form (RFC 5952, host "
		"bits 0).\n\nEach kind has a table of who may do what with it. Members of `system:masters` may do "
		"everything; `nacre:edit`\nincludes `nacre:view`. [apiserver.md](apiserver.md#authorization) has the "
		"rules for agents that apply to all kinds, and what a\nkube-apiserver can't check.\n");
	for (const struct api_kind *const *k = api_kinds; *k; k++) {
		if (strcmp((*k)->group, "nacre.dev") != 0)
			continue;
		buf_printf(out, "\n## %s\n\n%s\n\n`%s`", (*k)->kind, (*k)->doc, (*k)->plural);
		for (const char *const *s = (*k)->short_names; s && *s; s++)
			buf_printf(out, ", `%s`", *s);
		buf_printf(out, "; %s.", (*k)->namespaced ? "namespaced" : "cluster-scoped");
		for (const char *const *s = (*k)->selectable_fields; s && *s; s++)
			buf_printf(out, " Field selector: `%s`.", *s);
		if ((*k)->scale)
			buf_puts(out, " Has the scale subresource (`kubectl scale`).");
		buf_puts(out, "\n\n| field | type | meaning |\n|---|---|---|\n");
		fields((*k)->desc, "", out);
		for (const struct api_rule *r = (*k)->rules; r && r->path; r++)
			buf_printf(out, "\nRule%s%s%s: %s.\n", *r->path ? " for `" : "", r->path, *r->path ? "`" : "",
			           r->message);
		access_section(*k, out);
	}
	kubernetes_kinds(out);
	return buf_error(out, "the reference", err);
}
