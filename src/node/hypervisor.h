/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The instances of one host, without the API: given what shall be (hypervisor_put() and
 * hypervisor_remove()), it makes networks and containers, watches them, starts again what
 * ended, and tells what it sees.
 *
 * State is what is there: RUN_DIR/instances/UID (node/instdir.h), namespaces, control groups, processes. A new
 * hypervisor adopts all of it without touching it; what nobody has asked for by the time of
 * hypervisor_sweep() is removed then, and not before.
 *
 * What is asked for is done soon: what may block in a worker process (node/look.h), one for an instance at a time and
 * several at once; all else, and every change of state, by the loop, which never waits. A failure is reported and tried
 * again with a delay, for ever.
 */

#include <systemd/sd-event.h>

#include "base/loop.h"
#include "node/guest.h"

enum guest_phase {
	GUEST_PENDING, /* nobody has looked at it yet, so there is nothing to tell */
	GUEST_STARTING,
	GUEST_RUNNING,
	GUEST_PAUSED,   /* its machine is there, and its processors are paused */
	GUEST_STOPPING, /* its machine is there, and was asked to shut down */
	GUEST_STOPPED,
	GUEST_FAILED,
};

struct guest_state {
	enum guest_phase phase;
	char reason[32];   /* one word in CamelCase */
	char message[400]; /* a sentence */
	bool connected;    /* its network is there, so its endpoint may be announced */
	int64_t restarts;
};

enum hypervisor_accel { HYPERVISOR_AUTO, HYPERVISOR_KVM, HYPERVISOR_TCG };

struct hypervisor_ops {
	/* hypervisor_state() of it differs from before. */
	void (*changed)(void *userdata, const char *uid);
	/* For people. REASON and MESSAGE as above. */
	void (*event)(void *userdata, const char *uid, bool warning, const char *reason, const char *message);
	/* Nothing of it is left on the host. */
	void (*gone)(void *userdata, const char *uid);
	/* hypervisor_is_settled() has become true. */
	void (*settled)(void *userdata);
	/* HYPERVISOR_AUTO only: whether KVM works can't be told. No guest is started any more; a new start asks again.
	 */
	void (*failed)(void *userdata, const struct error *err);
};

struct hypervisor_config {
	sd_event *loop;
	const char *run_dir;
	const char *state_dir;   /* disks, in STATE_DIR/instances/UID */
	int64_t keep_removed_s;  /* how long to keep the disk of an instance that is missing (node/removed.h) */
	int64_t disk_overcommit; /* per cent (node/room.h) */
	/*
	 * A machine that is to stop is killed after so long; nacre-vm needs at most the guest's grace and 5 s
	 * (vm/machine.h).
	 */
	int64_t stop_s;
	const char *prefix;  /* of namespace names */
	const char *program; /* nacre-vm */
	bool require_cgroups;
	uid_t uid_base; /* QEMU of slot N runs as uid_base + N, below CONTAINER_USERS (node/container.h) */
	enum hypervisor_accel accel;
	int public_fd; /* namespace `public`; borrowed */
	struct hypervisor_ops ops;
	void *userdata;
};

struct hypervisor;

/*
 * Takes RUN_DIR and STATE_DIR for itself (-EBUSY if another has one) and adopts what is there. Strings are copied.
 * Whether KVM works is found out (node/kvmprobe.h), once a boot of the host, if that is asked for; no guest is started
 * before that is known.
 * -EOPNOTSUPP if control groups are required and can't bound memory, processor time and threads.
 */
int hypervisor_new(struct hypervisor **ret, const struct hypervisor_config *config, struct error *err) _must_use_;
/* Leaves everything as it is. */
struct hypervisor *hypervisor_free(struct hypervisor *h);
DEFINE_CLEANUP(hypervisor, struct hypervisor *, hypervisor_free)

/* What shall be. Calling it again with the same spec costs little, and repairs. */
int hypervisor_put(struct hypervisor *h, const struct guest_spec *spec, struct error *err) _must_use_;
/*
 * It shall not be. An unknown one is gone at once. ASKED: somebody deleted it, so its disk isn't kept; otherwise it is
 * only missing.
 */
void hypervisor_remove(struct hypervisor *h, const char *uid, bool asked);
/*
 * All that shall be is known: removes what was adopted and is not to be kept, and networks and empty control groups of
 * which nothing else is left. Their disks are kept for a time. What is kept but was not put is left alone.
 */
void hypervisor_sweep(struct hypervisor *h, bool (*keep)(void *userdata, const char *uid), void *userdata);

/* NULL if there is no such instance. Valid until control returns to the loop. */
const struct guest_state *hypervisor_state(const struct hypervisor *h, const char *uid);

struct hypervisor_stats {
	size_t guests, running;
	uint64_t restarts; /* since this process began */
};
/* Decided once, by the option or the probe. *RET_WHY_NOT is "" before, and where nothing was to be found out. */
bool hypervisor_uses_kvm(const struct hypervisor *h, const char **ret_why_not);
/* Whether KVM works is known, and what hypervisor_sweep() found has been removed. */
bool hypervisor_is_settled(const struct hypervisor *h);
/* Control group controllers that this host doesn't offer; enum cgroup_controller. */
unsigned hypervisor_missing_controllers(const struct hypervisor *h);
void hypervisor_stats(const struct hypervisor *h, struct hypervisor_stats *ret);

/* The API's word for it: status.phase of an Instance. */
const char *guest_phase_name(enum guest_phase phase);
