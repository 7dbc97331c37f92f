/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Answers the reviews of request/reviews.h. */

#include "apiserver/auth/auth.h"
#include "apiserver/request/request.h"

/* Answers R, whose route is a review. R->json is the body, an object, or NULL if there is no body. */
void review_answer(const struct auth *auth, struct request *r);

/* These are in review_access.c. */
void review_self_access(const struct auth *auth, struct request *r);
void review_access(const struct auth *auth, struct request *r);
void review_local_access(const struct auth *auth, struct request *r);
void review_self_rules(const struct auth *auth, struct request *r);

/* Answers 201 with the request's body and STATUS in it. Takes the reference STATUS; NULL means no memory. */
void review_reply(struct request *r, json_t *status);
/* Answers 422. A review has no api_kind. */
void review_invalid(struct request *r, enum api_reason reason, const char *path, const char *fmt, ...) _printf_(4, 5);
