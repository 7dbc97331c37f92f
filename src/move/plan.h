/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What an import has to do: compares the objects of a file with those of the server. Its only requests are lists. */

#include <jansson.h>

#include "kube/client.h"
#include "move/object.h"

/* One object of the file. */
struct item {
	const struct api_kind *kind;
	const json_t *obj; /* in the file */
	const char *uid;   /* in the file */
	char *now;         /* uid on the server; NULL: it does not exist there yet */
	json_t *have;      /* the object on the server; NULL after it was compared */
	/* The steps that are left, in this order. */
	bool create, adopt, status, delete;
	bool busy, check; /* busy: a request is under way; check: the object exists after all, so compare it */
};

struct plan {
	json_t *objects; /* the objects of the file, owned */
	struct item *items;
	size_t n;
	struct item **by_name, **by_uid; /* sorted */
	size_t conflicts;
};

/* Takes ownership of OBJECTS, even on failure. -EBADMSG if two objects have the same name or uid. */
int plan_init(struct plan *p, json_t *objects, struct error *err) _must_use_;
void plan_clear(struct plan *p);
#define _plan_ _cleanup_(plan_clear)

/*
 * Compares with all objects of the server. Conflicts are printed to stderr and counted in p->conflicts: an object that
 * differs from the file, or an object of Nacre that the file does not have.
 */
int plan_compare(struct plan *p, struct kube_client *c, struct error *err) _must_use_;
/* Compares one item with HAVE, the same object on the server. -EEXIST: it differs. */
int plan_look(struct plan *p, struct item *i, const json_t *have, struct error *err) _must_use_;

bool plan_item_is_done(const struct item *i);
/* An object_uid_fn whose userdata is the plan. */
const char *plan_uid(const char *uid, void *userdata);
