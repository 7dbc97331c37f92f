/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/slices.h"

#include <errno.h>
#include <stdlib.h>

#include "base/util.h"

const char *slices_value(const struct instance_slice *s, char out[static SLICE_STR_MAX]) {
	snprintf(out, SLICE_STR_MAX, "%.15s:%u-%u", s->address, (unsigned)s->first_port.v & 0xffff,
	         (unsigned)s->last_port.v & 0xffff);
	return out;
}

bool slices_have(const struct instance_status *s, const char *value) {
	char text[SLICE_STR_MAX];
	for (size_t i = 0; s && i < s->port_slices.n; i++)
		if (streq(slices_value(&s->port_slices.v[i], text), value))
			return true;
	return false;
}

int slices_add(struct instance_status *s, const char *value) {
	char text[ADDR_STR_MAX];
	struct slice p;
	if (slice_parse(value, &p, NULL) < 0)
		return -EINVAL;
	addr_str(&p.addr, text);
	struct instance_slice *v = reallocarray(s->port_slices.v, s->port_slices.n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	s->port_slices.v = v;
	v += s->port_slices.n;
	*v = (struct instance_slice){strdup(text), API_I64(p.first), API_I64(p.last)};
	if (!v->address)
		return -ENOMEM;
	return s->port_slices.n++ ? 0 : MIN(string_set(&s->public_ipv4, text), 0);
}

void slices_trim(struct instance_status *s, size_t n) {
	while (s->port_slices.n > n)
		api_clear(&api_desc_instance_slice, &s->port_slices.v[--s->port_slices.n]);
}

/* The number of the first slice that has PORT; the number of slices if none has it. */
static size_t slice_with_port(const struct instance_status *s, int64_t port) {
	size_t i = 0;
	while (i < s->port_slices.n &&
	       (port < s->port_slices.v[i].first_port.v || port > s->port_slices.v[i].last_port.v))
		i++;
	return i;
}

const char *slices_print(const struct instance_status *s, char out[static SLICES_TEXT_MAX]) {
	char text[SLICE_STR_MAX];
	size_t n = (size_t)snprintf(out, SLICES_TEXT_MAX, "%s", s->port_slices.n ? "" : "none");
	for (size_t i = 0; i < s->port_slices.n; i++)
		n += (size_t)snprintf(out + n, SLICES_TEXT_MAX - n, "%s%s", i ? ", " : "",
		                      slices_value(&s->port_slices.v[i], text));
	return out;
}
_Static_assert((SLICE_STR_MAX + 2) * ADDRESSPOOL_SLICES_MAX < SLICES_TEXT_MAX, "all slices fit into a text");

/* ---- forwards ---- */

/* The place of each forward of the spec: a port of a slice; port 0: none yet. */
struct place {
	const struct instance_slice *slice;
	int64_t port;
};

/* The place where the status has forward F, if a slice has that place still. */
static struct place forward_kept(const struct instance_status *s, const struct instance_forward *f) {
	for (size_t i = 0; i < s->forwards.n; i++) {
		const struct instance_forwarded *old = &s->forwards.v[i];
		if (!streq(old->protocol, f->protocol) || old->target_port.v != f->target_port.v)
			continue;
		for (size_t k = 0; k < s->port_slices.n; k++) {
			const struct instance_slice *p = &s->port_slices.v[k];
			if (streq(p->address, old->address) && old->port.v >= p->first_port.v &&
			    old->port.v <= p->last_port.v)
				return (struct place){p, old->port.v};
		}
	}
	return (struct place){0};
}

size_t slices_pinned(const struct instance_spec *spec, const struct instance_status *s) {
	size_t n = 1;
	for (size_t i = 0; i < spec->forwards.n; i++) {
		const struct instance_forward *f = &spec->forwards.v[i];
		const struct place kept = forward_kept(s, f);
		size_t k = f->port.set ? slice_with_port(s, f->port.v)
		           : kept.port ? (size_t)(kept.slice - s->port_slices.v)
		                       : 0;
		if (k < s->port_slices.n)
			n = MAX(n, k + 1);
	}
	return MIN(n, s->port_slices.n);
}

/* True if a forward other than number I has this place. */
static bool place_is_taken(const struct instance_spec *spec, const struct place *places, size_t i, struct place p) {
	for (size_t k = 0; k < spec->forwards.n; k++)
		if (k != i && places[k].port == p.port && streq(places[k].slice->address, p.slice->address) &&
		    streq(spec->forwards.v[k].protocol, spec->forwards.v[i].protocol))
			return true;
	return false;
}

/* Finds the places of all forwards. Returns the number of the first one without a place; the number of forwards: none.
 */
static size_t forwards_place(const struct instance_spec *spec, const struct instance_status *s,
                             struct place places[static INSTANCE_FORWARDS_MAX]) {
	const size_t n = MIN(spec->forwards.n, (size_t)INSTANCE_FORWARDS_MAX);
	size_t missing = n;
	/* Those with a named port first: nobody else may keep that one. */
	for (size_t i = 0; i < n; i++) {
		size_t k = spec->forwards.v[i].port.set ? slice_with_port(s, spec->forwards.v[i].port.v)
		                                        : s->port_slices.n;
		places[i] = k < s->port_slices.n ? (struct place){&s->port_slices.v[k], spec->forwards.v[i].port.v}
		                                 : (struct place){0};
	}
	for (size_t i = 0; i < n; i++) {
		struct place kept =
			spec->forwards.v[i].port.set ? (struct place){0} : forward_kept(s, &spec->forwards.v[i]);
		if (kept.port && !place_is_taken(spec, places, i, kept))
			places[i] = kept;
	}
	for (size_t i = 0; i < n; i++) {
		const struct instance_slice *first = s->port_slices.n ? s->port_slices.v : NULL;
		/* Port 0 can't be forwarded. */
		for (int64_t port = first ? MAX(first->first_port.v, 1) : 1;
		     first && !places[i].port && !spec->forwards.v[i].port.set && port <= first->last_port.v; port++)
			if (!place_is_taken(spec, places, i, (struct place){first, port}))
				places[i] = (struct place){first, port};
		if (!places[i].port)
			missing = MIN(missing, i);
	}
	return missing;
}

int forwards_update(struct instance *n, char why[static FORWARDS_MESSAGE_MAX]) {
	struct place places[INSTANCE_FORWARDS_MAX];
	struct instance_status made = {0};
	char text[SLICES_TEXT_MAX];
	const size_t count = MIN(n->spec->forwards.n, (size_t)INSTANCE_FORWARDS_MAX);
	const size_t missing = forwards_place(n->spec, n->status, places);
	if (count && !(made.forwards.v = calloc(count, sizeof(*made.forwards.v))))
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct instance_forward *f = &n->spec->forwards.v[i];
		if (!places[i].port)
			continue;
		struct instance_forwarded *to = &made.forwards.v[made.forwards.n++];
		*to = (struct instance_forwarded){strdup(f->protocol), strdup(places[i].slice->address),
		                                  API_I64(places[i].port), f->target_port};
		if (!to->protocol || !to->address) {
			api_clear(&api_desc_instance_status, &made);
			return -ENOMEM;
		}
	}
	if (missing < count && !n->status->port_slices.n)
		snprintf(why, FORWARDS_MESSAGE_MAX, "the instance has no slice of ports, which spec.forwards needs");
	else if (missing < count && n->spec->forwards.v[missing].port.set)
		snprintf(why, FORWARDS_MESSAGE_MAX,
		         "spec.forwards[%zu].port %lld is in no slice of ports of the instance; it has %s. Choose a "
		         "port "
		         "of these, or leave port out",
		         missing, (long long)n->spec->forwards.v[missing].port.v, slices_print(n->status, text));
	else if (missing < count)
		snprintf(why, FORWARDS_MESSAGE_MAX,
		         "spec.forwards[%zu] has no port: no port of the first slice is free; the instance has %s",
		         missing, slices_print(n->status, text));
	/* The old list goes with MADE. */
	typeof(made.forwards) old = n->status->forwards;
	n->status->forwards = made.forwards;
	made.forwards = old;
	api_clear(&api_desc_instance_status, &made);
	return missing == count;
}
