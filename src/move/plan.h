/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an import has to do: the objects of a file beside what the server has. No requests but lists.
 */

#include <jansson.h>

#include "kube/client.h"
#include "move/object.h"

/* One object of the file. */
struct item {
	const struct api_kind *kind;
	const json_t *obj; /* of the file */
	const char *uid;   /* in the file */
	char *now;         /* uid on the server; NULL: it is not there yet */
	json_t *have;      /* as the server has it, until it was compared */
	/* What is left to do, in this order. */
	bool create, adopt, status, delete;
	bool busy, check; /* a request is under way; it is there after all: look at it */
};

struct plan {
	json_t *objects; /* the file's, owned */
	struct item *items;
	size_t n;
	struct item **by_name, **by_uid; /* sorted */
	size_t conflicts;
};

/* Takes OBJECTS over, also on failure. -EBADMSG if two are of one name or uid. */
int plan_init(struct plan *p, json_t *objects, struct error *err) _must_use_;
void plan_clear(struct plan *p);
#define _plan_ _cleanup_(plan_clear)

/*
 * Looks at all that the server has. What stands in the way is said on stderr and counted in p->conflicts: an object
 * that differs, or one of Nacre's that the file hasn't.
 */
int plan_compare(struct plan *p, struct kube_client *c, struct error *err) _must_use_;
/* The same for one item and what the server has of it, HAVE. -EEXIST: it differs. */
int plan_look(struct plan *p, struct item *i, const json_t *have, struct error *err) _must_use_;

bool plan_item_is_done(const struct item *i);
/* An object_uid_fn: userdata is the plan. */
const char *plan_uid(const char *uid, void *userdata);
