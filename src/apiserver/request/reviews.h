/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Questions put as objects: resources that are only created, never stored, and answered with the same object and its
 * status filled in (SelfSubjectAccessReview and the like; as a subresource, TokenRequest). This is how they are named,
 * for routes and discovery; auth/review.h answers them.
 */

#include "api/api.h"

enum review_question {
	REVIEW_SELF_ACCESS,
	REVIEW_ACCESS,
	REVIEW_LOCAL_ACCESS,
	REVIEW_SELF_RULES,
	REVIEW_SELF,
	REVIEW_TOKEN,
	REVIEW_TOKEN_REQUEST,
	REVIEW_QUESTIONS,
};

struct review {
	enum review_question question;
	const char *group, *version, *kind, *plural, *singular;
	bool namespaced;
	/* A subresource of this kind of object, with this name; plural is the object's, then. Else NULL. */
	const struct api_kind *of;
	const char *subresource;
};

/* All there are, ended by group NULL. */
extern const struct review review_kinds[];
