/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The blocking part of a look at one guest: makes what it needs and starts its container, or takes all of it apart.
 *
 * It runs in a worker process (base/job.h), one for a guest at a time and many at once. It may be killed at any moment
 * and then is done again: whatever is there is found by looking, and a container that was started outlives the worker.
 * It changes no state of the agent; what it did is in its result.
 */

#include "node/guest.h"
#include "node/instdir.h"
#include "node/removed.h"

/* What all guests of the host share. */
struct look_host {
	const char *prefix, *program, *state_dir;
	int public_fd; /* network namespace `public`; the worker keeps it */
	int64_t disk_overcommit;
	bool kvm;
	const struct cgroups *cgroups;
	const struct removed *removed;
};

struct look {
	const struct look_host *host;
	const char *uid, *id;
	const char *dir, *state_dir; /* node/instdir.h */
	uid_t user;                  /* QEMU's */
	pid_t pid;                   /* first process of its container, which is watched; 0: none that is known */
	bool may_start;
	uint64_t nft_state;            /* net/nft.h */
	bool asked;                    /* look_remove(): somebody deleted it */
	const struct guest_spec *spec; /* look_ensure() */
};

struct look_result {
	bool removed;    /* by look_remove() */
	char reason[32]; /* of a failure: one word */
	pid_t pid;       /* a container that was found or started where none was known; 0: there is none */
	bool started;
	bool connected;    /* its network is there */
	bool network_lost; /* its container is in another network namespace than that of this name */
	uint64_t nft_state;
};

/* Both also fill RET when they fail. */
int look_ensure(const struct look *l, struct look_result *ret, struct error *err) _must_use_;
/* Nothing is removed while anything runs. */
int look_remove(const struct look *l, struct look_result *ret, struct error *err) _must_use_;
