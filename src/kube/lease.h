/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Leases (coordination.k8s.io/v1): a heartbeat, which a daemon renews to say that it lives; and leader election, in
 * which one of several daemons holds the lease. Times in a lease are information only: whether somebody else's lease
 * ran out is decided by one's own monotonic clock, from when the lease was last seen to change (as client-go does),
 * so clocks need not agree.
 */

#include "kube/client.h"

/* The namespace of Nacre's own leases. */
#define KUBE_SYSTEM_NS "nacre-system"

/* Name of the Lease that is HOST's heartbeat, in KUBE_SYSTEM_NS: "host-<HOST>". */
#define KUBE_LEASE_NAME_MAX 264
const char *kube_host_lease_name(const char *host, char out[static KUBE_LEASE_NAME_MAX]);

/* ---- heartbeat ---- */

struct kube_heartbeat;

struct kube_heartbeat_options {
	const char *ns, *name, *identity;
	uint32_t duration_s; /* 0: 15. Others take us for dead after so long without renewal */
	uint32_t renew_ms;   /* 0: a third of the duration */
	/* Called when renewals begin to fail (ERR) and when they succeed again (NULL). May be NULL. */
	void (*state)(const struct error *err, void *userdata);
	void *userdata;
};

/* Creates the lease if it is missing, takes it over if another identity is in it, renews it for ever. Strings are
 * copied. */
int kube_heartbeat_new(struct kube_heartbeat **ret, struct kube_client *c, const struct kube_heartbeat_options *o,
                       struct error *err) _must_use_;
struct kube_heartbeat *kube_heartbeat_free(struct kube_heartbeat *h);
DEFINE_CLEANUP(kube_heartbeat, struct kube_heartbeat *, kube_heartbeat_free)
uint64_t kube_heartbeat_last(const struct kube_heartbeat *h); /* monotonic ns of the last renewal; 0: none */

/* ---- leader election ---- */

struct kube_elector;

struct kube_elector_options {
	const char *ns, *name, *identity;
	uint32_t duration_ms; /* 0: 15,000. Others wait so long after the last renewal */
	uint32_t deadline_ms; /* 0: 10,000. We stop leading when we could not renew for so long */
	uint32_t retry_ms;    /* 0: 2,000. Between attempts */
	/* LEADING changed. ERR (may be NULL) says why leadership was lost. */
	void (*changed)(bool leading, const struct error *err, void *userdata);
	void *userdata;
};

int kube_elector_new(struct kube_elector **ret, struct kube_client *c, const struct kube_elector_options *o,
                     struct error *err) _must_use_;
/* Gives the lease up (blocking, at most 1 s) if it is held, so that another may lead at once. */
struct kube_elector *kube_elector_free(struct kube_elector *e);
DEFINE_CLEANUP(kube_elector, struct kube_elector *, kube_elector_free)
/* True while the lease is held by our own clock; false at once past the deadline, before any timer ran. */
bool kube_elector_leading(const struct kube_elector *e);
