/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Questions put as objects: resources that are only created, never stored, and answered with the same object and its
 * status filled in (SelfSubjectAccessReview and the like; as a subresource, TokenRequest).
 */

#include "apiserver/server.h"

struct review {
	const char *group, *version, *kind, *plural, *singular;
	bool namespaced;
	/* A subresource of this kind of object, with this name; plural is the object's, then. Else NULL. */
	const struct api_kind *of;
	const char *subresource;
	/* Sets r->reply; r->json is the body, an object, or NULL if there was none. */
	void (*answer)(struct server *s, struct request *r);
};

/* All there are, ended by group NULL. */
extern const struct review reviews[];

/* review_access.c */
void review_self_access(struct server *s, struct request *r);
void review_access(struct server *s, struct request *r);
void review_local_access(struct server *s, struct request *r);
void review_self_rules(struct server *s, struct request *r);

/* The body with apiVersion, kind, metadata and STATUS (taken, NULL is no memory), as 201. */
void review_reply(struct request *r, json_t *status);
/* 422 for a review, which has no kind of objects. */
void review_invalid(struct request *r, enum api_reason reason, const char *path, const char *fmt, ...) _printf_(4, 5);
