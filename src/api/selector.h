/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The label selector of Kubernetes (metav1.LabelSelector): requirements for labels, all of which must hold. An empty
 * selector matches every object.
 */

#include "api/api.h"

#define API_SELECTOR_LABELS_MAX      16
#define API_SELECTOR_EXPRESSIONS_MAX 16
#define API_SELECTOR_VALUES_MAX      64

#define API_REQUIREMENT(F, T)                                                                                    \
	F(T, str, key, "key", API_REQ, qualified, 1, 317, NULL, "Key of a label.")                               \
	F(T, str, op, "operator", API_REQ, selector_operator, 1, 15, NULL,                                       \
	  "In: the label has one of the values. NotIn: it has none of them, or there is no such label. Exists, " \
	  "DoesNotExist: there is such a label, or none.")                                                       \
	F(T, strs, values, "values", API_MAY_BE_EMPTY, label_value, 0, API_SELECTOR_VALUES_MAX, NULL,            \
	  "Values of the label: at least one for In and NotIn, none for Exists and DoesNotExist.")
API_DECLARE(api_requirement, API_REQUIREMENT)

#define API_SELECTOR(F, T)                                                                                           \
	F(T, map, match_labels, "matchLabels", 0, _, 0, API_SELECTOR_LABELS_MAX, NULL,                               \
	  "Labels that the object must have, with these values.")                                                    \
	F(T, list, match_expressions, "matchExpressions", 0, api_requirement, 0, API_SELECTOR_EXPRESSIONS_MAX, NULL, \
	  "Further requirements for its labels.")
API_DECLARE(api_selector, API_SELECTOR)

/* For the path of matchExpressions[] in a kind's rules. */
#define API_REQUIREMENT_CEL                                                               \
	"self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : " \
	"!has(self.values) || size(self.values) == 0"
#define API_REQUIREMENT_RULE "values are required for In and NotIn, and must not be set for Exists and DoesNotExist"

/* Checks the rule about several fields of S. AT is the path of S in its object. S may be NULL. */
void api_selector_check(const struct api_selector *s, const char *at, struct api_errors *errs);
bool api_selector_matches(const struct api_selector *s, const struct api_map *labels);
/*
 * Appends the canonical text of S: "app in (db,web),!old,tier notin (a),x". Selectors with the same requirements, in
 * whatever order and form, have the same text; that of an empty selector is empty. If memory runs out, OUT->failed is
 * set.
 */
void api_selector_text(const struct api_selector *s, struct buf *out);
