/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/request/reviews.h"

#include "api/account.h"

#define AUTHORIZATION  "authorization.k8s.io", "v1"
#define AUTHENTICATION "authentication.k8s.io", "v1"

const struct review review_kinds[] = {
	{REVIEW_SELF_ACCESS, AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews",
         "selfsubjectaccessreview"},
	{REVIEW_ACCESS, AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview"},
	{REVIEW_LOCAL_ACCESS, AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews",
         "localsubjectaccessreview", .namespaced = true},
	{REVIEW_SELF_RULES, AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews",
         "selfsubjectrulesreview"},
	{REVIEW_SELF, AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview"},
	{REVIEW_TOKEN, AUTHENTICATION, "TokenReview", "tokenreviews", "tokenreview"},
	{REVIEW_TOKEN_REQUEST, AUTHENTICATION, "TokenRequest", "serviceaccounts", "", .namespaced = true,
         .of = &api_kind_serviceaccount, .subresource = "token"},
	{0},
};
