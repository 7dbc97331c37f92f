/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Conditions of Instances, for the concerns that write them. */

#include "api/instance.h"

/* Sets a condition of N, a copy with a status. Without memory the condition stays as it was, until the next look. */
void instance_set_condition(struct instance *n, const char *type, const char *status, const char *reason,
                            const char *fmt, ...) _printf_(5, 6);
/* NULL: there is none. */
const struct api_condition *instance_condition(const struct instance *i, const char *type);
/* True if the condition TYPE says something else in N than in I. */
bool instance_tells_more(const struct instance *i, const struct instance *n, const char *type);
/* Makes status.forwards of N, and the condition ForwardsReady if N has or had forwards. False without memory. */
bool instance_update_forwards(struct instance *n) _must_use_;
