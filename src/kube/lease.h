/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Leases (coordination.k8s.io/v1): a heartbeat, which a daemon renews to show that it is alive, and leader election, in
 * which one of several daemons holds the lease. The times in a lease are only information. Whether the lease of another
 * holder has expired is decided by our own monotonic clock, from when the lease was last seen to change (as in
 * client-go), so clocks need not agree.
 */

#include "kube/client.h"

/* The namespace of Nacre's own leases. */
#define KUBE_SYSTEM_NS "nacre-system"

/* Name of the Lease with the heartbeat of HOST, in KUBE_SYSTEM_NS: "host-<HOST>". */
#define KUBE_LEASE_NAME_MAX 264
const char *kube_host_lease_name(const char *host, char out[static KUBE_LEASE_NAME_MAX]);

/* ---- heartbeat ---- */

struct kube_heartbeat;

struct kube_heartbeat_options {
	const char *ns, *name, *identity;
	uint32_t duration_s; /* 0: 15. Without renewal for so long, others consider us dead */
	uint32_t renew_ms;   /* 0: a third of the duration */
	/* Called when renewals begin to fail (with ERR) and when they succeed again (NULL). May be NULL. */
	void (*state)(const struct error *err, void *userdata);
	void *userdata;
};

/* Creates the lease if it is missing, takes it over if it has another holder, and renews it until it is freed. Strings
 * are copied. */
int kube_heartbeat_new(struct kube_heartbeat **ret, struct kube_client *c, const struct kube_heartbeat_options *o,
                       struct error *err) _must_use_;
struct kube_heartbeat *kube_heartbeat_free(struct kube_heartbeat *h);
DEFINE_CLEANUP(kube_heartbeat, struct kube_heartbeat *, kube_heartbeat_free)
uint64_t kube_heartbeat_last(const struct kube_heartbeat *h); /* monotonic ns of the last renewal; 0: none */

/* ---- leader election ---- */

struct kube_elector;

struct kube_elector_options {
	const char *ns, *name, *identity;
	uint32_t duration_ms; /* 0: 15,000. Others wait so long after the last renewal before they take the lease */
	uint32_t deadline_ms; /* 0: 10,000. We stop leading if we could not renew for so long */
	uint32_t retry_ms;    /* 0: 2,000. Pause between attempts */
	/* Called when LEADING changes. ERR (may be NULL) says why leadership was lost. */
	void (*changed)(bool leading, const struct error *err, void *userdata);
	void *userdata;
};

int kube_elector_new(struct kube_elector **ret, struct kube_client *c, const struct kube_elector_options *o,
                     struct error *err) _must_use_;
/* If the lease is held, gives it up (blocks at most 1 s), so that another daemon may lead at once. */
struct kube_elector *kube_elector_free(struct kube_elector *e);
DEFINE_CLEANUP(kube_elector, struct kube_elector *, kube_elector_free)
/* True while we hold the lease by our own clock. False at once after the deadline, even before a timer has run. */
bool kube_elector_leading(const struct kube_elector *e);
