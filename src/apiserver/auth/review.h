/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Answers to the questions of request/reviews.h. */

#include "apiserver/auth/auth.h"
#include "apiserver/request/request.h"

/* Answers R, whose route is a review's. R->json is the body, an object, or NULL if there was none. */
void review_answer(const struct auth *auth, struct request *r);

/* review_access.c */
void review_self_access(const struct auth *auth, struct request *r);
void review_access(const struct auth *auth, struct request *r);
void review_local_access(const struct auth *auth, struct request *r);
void review_self_rules(const struct auth *auth, struct request *r);

/* The body with apiVersion, kind, metadata and STATUS (taken, NULL is no memory), as 201. */
void review_reply(struct request *r, json_t *status);
/* 422 for a review, which has no kind of objects. */
void review_invalid(struct request *r, enum api_reason reason, const char *path, const char *fmt, ...) _printf_(4, 5);
