/* SPDX-License-Identifier: Apache-2.0 */
#include "api/access.h"

#include <string.h>

#include "api/agents.h"
#include "base/util.h"

const struct api_access access_operator = {0};

const char *access_next_word(const char **p, size_t *len) {
	const char *word = *p;
	if (!word || !*word)
		return NULL;
	*len = strcspn(word, " ");
	*p = word + *len + (word[*len] == ' ');
	return word;
}

bool access_has_word(const char *words, const char *word) {
	const size_t n = strlen(word);
	size_t len;
	for (const char *w; (w = access_next_word(&words, &len));)
		if (len == n && memcmp(w, word, n) == 0)
			return true;
	return false;
}

void access_print_words(struct buf *out, const char *words, const char *quote) {
	size_t len;
	const char *w, *sep = "";
	while ((w = access_next_word(&words, &len))) {
		const char *rest = words;
		size_t n;
		buf_printf(out, "%s%s%.*s%s", sep, quote, (int)len, w, quote);
		(void)access_next_word(&rest, &n);
		sep = *rest ? ", " : " and ";
	}
}

const char *access_string(const json_t *obj, const char *path) {
	for (size_t n; *path && obj; path += n + (path[n] == '.')) {
		n = strcspn(path, ".");
		obj = json_object_getn(obj, path, n);
	}
	return json_string_value(obj);
}

/* ---- agents ---- */

const struct access_agents *access_agents(const struct api_kind *k, unsigned whose) {
	const struct access_agents *g = &k->access->agents;
	return g->whose & whose ? g : NULL;
}

bool access_agents_write(const struct access_agents *g) {
	return g->creates || g->updates || g->status || g->deletes;
}

char *access_own_value(const struct access_agents *g, const struct access_agent *a) {
	return strf("%s%s", g->own_prefix ? g->own_prefix : "", a->host);
}

bool access_is_own(const struct access_agents *g, const struct access_agent *a, const json_t *obj) {
	_free_ char *value = access_own_value(g, a);
	return value && g->own && streq(access_string(obj, g->own), value);
}

/* ---- grants ---- */

void access_each_grant(const struct api_kind *k,
                       void (*fn)(const struct api_kind *k, const struct access_grant *g, void *userdata),
                       void *userdata) {
	const struct access_agents *a = &k->access->agents;
	char verbs[96];
	for (const struct access_grant *g = k->access->grants; g && g->role; g++)
		fn(k, g, userdata);
	for (const struct agent_kind *kind = agent_kinds; kind->whose; kind++) {
		if (!(a->whose & kind->whose))
			continue;
		const int n = snprintf(verbs, sizeof(verbs), " %s%s%s%s", a->reads ? a->reads : "",
		                       a->creates ? " create" : "", a->updates ? " update patch" : "",
		                       a->deletes ? " delete" : "");
		const char *p = verbs + strspn(verbs, " ");
		if (n > 0 && *p)
			fn(k, &(struct access_grant){kind->role, ".", p, a->ns}, userdata);
		if (a->status)
			fn(k, &(struct access_grant){kind->role, "status", "get update patch", a->ns}, userdata);
	}
}
