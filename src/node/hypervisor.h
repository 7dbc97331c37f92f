/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The instances of one host, without the API. hypervisor_put() and hypervisor_remove() say what must be; the hypervisor
 * makes networks and containers, watches them, starts again what ended, and reports what it sees.
 *
 * All state is on the host: RUN_DIR/instances/UID (node/instdir.h), namespaces, control groups, processes. A new
 * hypervisor adopts all of it without touching it. hypervisor_sweep() removes what nobody has asked for by then;
 * nothing is removed before that.
 *
 * Requests are carried out soon after the call. Steps that may block run in a worker process (node/look.h), one for an
 * instance at a time and several at once. The loop does everything else and makes every change of state, and never
 * waits. A failure is reported and tried again with a delay, for ever.
 */

#include <systemd/sd-event.h>

#include "base/loop.h"
#include "node/firewalls.h"
#include "node/guest.h"
#include "node/seeds.h"

enum guest_phase {
	GUEST_PENDING, /* it was not looked at yet, so there is nothing to report */
	GUEST_STARTING,
	GUEST_RUNNING,
	GUEST_PAUSED,   /* its machine exists, with paused processors */
	GUEST_STOPPING, /* its machine exists, and was asked to shut down */
	GUEST_STOPPED,
	GUEST_FAILED,
};

/* What is known about its slices of ports (node/ports.h). */
struct guest_ports {
	int64_t wanted; /* slices that it should have; 0: nothing is known yet */
	bool exhausted;
	char message[400]; /* a sentence; only if it is exhausted */
};

/* What is known about its firewall (node/firewall.h). */
struct guest_firewall {
	bool known;                       /* the kernel has the rules */
	bool whole;                       /* of all Firewalls that select it */
	char reason[32];                  /* one word in CamelCase */
	char message[400];                /* a sentence, which names those that are not applied */
	uint64_t dropped_in, dropped_out; /* packets */
	struct instance_firewall *counts; /* as last reported; NULL: nothing was counted yet */
};

struct guest_state {
	enum guest_phase phase;
	char reason[32];   /* one word in CamelCase */
	char message[400]; /* a sentence */
	bool connected;    /* its network exists, so its Endpoint may be announced */
	bool current;      /* and is as the last hypervisor_put() says */
	struct guest_ports ports;
	struct guest_firewall firewall;
	int64_t restarts;
};

enum hypervisor_accel { HYPERVISOR_AUTO, HYPERVISOR_KVM, HYPERVISOR_TCG };

struct hypervisor_ops {
	/* Says which Firewalls select the instance; NULL: none does. Called in a worker, too. */
	void (*guarded)(void *userdata, const char *uid, struct firewalls_attached *ret);
	/* hypervisor_state() of the instance has changed. */
	void (*changed)(void *userdata, const char *uid);
	/* An event for people. REASON and MESSAGE as above. */
	void (*event)(void *userdata, const char *uid, bool warning, const char *reason, const char *message);
	/* Its firewall dropped packets. Called at most 20 times a minute for an instance. */
	void (*dropped)(void *userdata, const char *uid, const struct firewall_drop *drop);
	/* Nothing of the instance is left on the host. */
	void (*gone)(void *userdata, const char *uid);
	/* hypervisor_is_settled() has become true. */
	void (*settled)(void *userdata);
	/*
	 * HYPERVISOR_AUTO only: it can't be found out whether KVM works. No guest is started any more; a new start of
	 * the agent probes again.
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
	 * Seconds after which a machine that must stop is killed. nacre-vm needs at most the guest's grace and 5 s
	 * (vm/machine.h).
	 */
	int64_t stop_s;
	const char *prefix;  /* of namespace names */
	const char *program; /* nacre-vm */
	bool require_cgroups;
	uid_t uid_base; /* QEMU of slot N runs as uid_base + N, below CONTAINER_USERS (node/container.h) */
	enum hypervisor_accel accel;
	int public_fd;             /* namespace `public`; borrowed */
	const struct seeds *seeds; /* what guests are told; borrowed; NULL: nothing */
	struct hypervisor_ops ops;
	void *userdata;
};

struct hypervisor;

/*
 * Locks RUN_DIR and STATE_DIR (-EBUSY if another agent has locked one) and adopts what is there. Strings are copied. If
 * the configuration asks for it, finds out whether KVM works (node/kvmprobe.h), once for each boot of the host; no
 * guest is started before that is known.
 *
 * -EOPNOTSUPP: control groups are required but can't limit memory, processor time and threads.
 */
int hypervisor_new(struct hypervisor **ret, const struct hypervisor_config *config, struct error *err) _must_use_;
/* Leaves everything on the host as it is. */
struct hypervisor *hypervisor_free(struct hypervisor *h);
DEFINE_CLEANUP(hypervisor, struct hypervisor *, hypervisor_free)

/* The instance must exist as SPEC says. A repeated call with the same spec costs little and repairs what differs. */
int hypervisor_put(struct hypervisor *h, const struct guest_spec *spec, struct error *err) _must_use_;
/* Looks at the instance soon, because what it must be may have changed. Nothing happens if nobody has put it. */
void hypervisor_look(struct hypervisor *h, const char *uid);
/* Members of groups that its Firewalls name have come or gone: the same, but at less cost where that is possible. */
void hypervisor_members(struct hypervisor *h, const char *uid);
/*
 * The instance must not exist. After a boot of the host an unknown instance may still have a disk, so it is also
 * removed, and `gone` is called. Without memory, or if UID is not a UUID, an unknown instance stays unknown. ASKED:
 * somebody deleted it, so its disk isn't kept; otherwise it is only missing from the API.
 */
void hypervisor_remove(struct hypervisor *h, const char *uid, bool asked);
/*
 * Everything that must exist has been put. Removes adopted instances for which KEEP returns false, and networks and
 * empty control groups of which nothing else is left. Their disks are kept for a time. Instances that KEEP keeps but
 * that were not put are left alone. KEEP may still be called later, and in a worker. With UID NULL it says whether
 * there may be instances that it can't tell; then these networks and control groups stay. To be called again when KEEP
 * keeps fewer.
 */
void hypervisor_sweep(struct hypervisor *h, bool (*keep)(void *userdata, const char *uid), void *userdata);

/* NULL if there is no such instance. Valid until control returns to the loop. */
const struct guest_state *hypervisor_state(const struct hypervisor *h, const char *uid);

struct hypervisor_stats {
	size_t guests, running;
	uint64_t restarts;                /* since this process began */
	uint64_t ports, ports_used;       /* of slices of all guests */
	uint64_t dropped_in, dropped_out; /* packets, by the guests' firewalls, since this process began */
	uint64_t refused;                 /* connections for which no port was free, since this process began */
	/* Requests that change members of a guest's groups without a worker, since this process began; by result. */
	uint64_t members_sent, members_refused;
};
/* Decided once, by the option or the probe. *RET_WHY_NOT is "" before that, and if there was no need to probe. */
bool hypervisor_uses_kvm(const struct hypervisor *h, const char **ret_why_not);
/* True once it is known whether KVM works and hypervisor_sweep() has removed networks and control groups. */
bool hypervisor_is_settled(const struct hypervisor *h);
/* Control group controllers that this host doesn't offer; enum cgroup_controller. */
unsigned hypervisor_missing_controllers(const struct hypervisor *h);
void hypervisor_stats(const struct hypervisor *h, struct hypervisor_stats *ret);

/* The name of PHASE in the API: status.phase of an Instance. */
const char *guest_phase_name(enum guest_phase phase);
