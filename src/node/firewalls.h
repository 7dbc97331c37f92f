/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the API says about the firewalls of this host's instances.
 *
 * There is a cache of Firewalls for each namespace that has instances on this host; it begins with the first instance
 * and ends with the last. Firewalls of other namespaces are not followed. The members of groups (node/groups.h) are
 * those of all namespaces, since they come from Endpoints, which every host follows.
 *
 * While the API is away the caches keep what they have. All functions run on the loop's thread, and those that only
 * read also in a worker process (base/job.h), which sees the caches as they were at its fork.
 */

#include "api/firewall.h"
#include "kube/cache.h"
#include "node/firewall.h"

struct firewalls;

struct firewalls_config {
	struct kube_client *client;
	/*
	 * The rules of Firewalls of the namespace are others than before, or are now known for the first time
	 * (firewalls_known()).
	 */
	void (*changed)(void *userdata, const char *ns);
	/* Members have come into groups IDS, or left them, which Firewalls of the namespace name (firewalls_use()). */
	void (*members)(void *userdata, const char *ns, const char *const *ids, size_t n);
	/* firewalls_known_all() may have become true. */
	void (*known)(void *userdata);
	/* The API refuses to tell the Firewalls of the namespace; ERR NULL: it tells them again. */
	void (*refused)(void *userdata, const char *ns, const struct error *err);
	/* Firewall NAME of the namespace is not understood; ERR NULL: it is understood now, or gone. */
	void (*problem)(void *userdata, const char *ns, const char *name, const struct error *err);
	void *userdata;
};

int firewalls_new(struct firewalls **ret, const struct firewalls_config *c, struct error *err) _must_use_;
struct firewalls *firewalls_free(struct firewalls *f);
DEFINE_CLEANUP(firewalls, struct firewalls *, firewalls_free)

/*
 * The host has one more instance of the namespace, and one less. Without memory the process ends (abort), as with
 * caches: an instance whose Firewalls are never known would never start.
 */
void firewalls_hold(struct firewalls *f, const char *ns);
void firewalls_release(struct firewalls *f, const char *ns);

/* A change of any Endpoint, or KUBE_SYNCED. Of endpoints that are not instances' nothing is kept. */
void firewalls_endpoint(struct firewalls *f, const struct kube_change *ch);

/* True once all Firewalls of the namespace and all members of groups are known. */
bool firewalls_known(const struct firewalls *f, const char *ns);

/* True once that holds for all namespaces that have instances on this host. */
bool firewalls_known_all(const struct firewalls *f);

/* The Firewalls that select an instance; all pointers are valid until control returns to the loop. */
struct firewalls_attached {
	const struct firewall *v[FIREWALL_ATTACHED_MAX]; /* in order of name */
	const struct firewall_size *sizes[FIREWALL_ATTACHED_MAX];
	struct firewall_attached is; /* these, for firewall_ensure() */
	size_t beyond;               /* so many more select it, which is more than an instance may have */
	bool stale;   /* one that isn't understood counts as the version of it that was understood last */
	bool pending; /* they are unknown since the API hasn't told all of them yet (firewalls_known()) */
};
/* LABELS are those of the instance; NULL: it has none. */
void firewalls_attached(const struct firewalls *f, const char *ns, const struct api_map *labels,
                        struct firewalls_attached *ret);

/* True if a Firewall that selects an instance with these LABELS names one of the groups IDS. */
bool firewalls_use(const struct firewalls *f, const char *ns, const struct api_map *labels, const char *const *ids,
                   size_t n);

/* How many Firewalls are not understood (kube/cache.h). */
size_t firewalls_not_understood(const struct firewalls *f);
