/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reviews are resources that are only created and never stored. The answer is the same object with its status filled in
 * (SelfSubjectAccessReview and others; TokenRequest is a subresource). This table has their names, for routes and
 * discovery; auth/review.h answers them.
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
	/* For a subresource: the kind that it belongs to, whose plural is `plural`, and its name. Else NULL. */
	const struct api_kind *of;
	const char *subresource;
};

/* All reviews; the last one has group NULL. */
extern const struct review review_kinds[];
