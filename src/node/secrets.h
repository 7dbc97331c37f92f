/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The values of the Secrets that Instances of this host name, and of no others. An agent may only get them, one by one
 * (controller/secrets.c), so each is asked for when an Instance first names it, again every five minutes, and when such
 * an Instance changes. What the server refuses or doesn't have is asked for again with a delay, for ever; the right to
 * get it is granted only after an Instance is bound. While the API is away, the last answer holds. Values are nowhere
 * but in memory, and are overwritten before it is freed.
 */

#include "api/instance.h"
#include "kube/client.h"

struct secrets;

/* CHANGED: what secrets_get() says about a Secret has changed. */
int secrets_new(struct secrets **ret, struct kube_client *client,
                void (*changed)(void *userdata, const char *ns, const char *secret), void *userdata,
                struct error *err) _must_use_;
struct secrets *secrets_free(struct secrets *s);

/* An Instance was WAS and IS now; NULL: it was not, or is not, there. */
void secrets_follow(struct secrets *s, const struct instance *was, const struct instance *is);

/*
 * The value that WHAT, of an Instance in namespace NS, names; borrowed until control returns to the loop. -EAGAIN: it
 * is being asked for. Any other error: ERR names the Secret, the field and a remedy, and *RET_REASON is one word.
 */
int secrets_get(const struct secrets *s, const char *ns, const struct instance_secret *what, const char **ret,
                size_t *ret_len, const char **ret_reason, struct error *err) _must_use_;
/* The value can't be used: it is asked for again as if it were missing, until it is another one. */
void secrets_refuse(struct secrets *s, const char *ns, const struct instance_secret *what);
