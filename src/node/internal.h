/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the files of the hypervisor share (node/hypervisor.h). All of it runs on the loop's thread and never waits.
 *
 *   hypervisor.c     its life: folders, locks, adoption, KVM or not; what shall be
 *   look.c           when a guest is looked at, by which worker, and what follows from what was found
 *   round.c          many guests that nothing happened to are looked at by one worker
 *   guest_process.c  the first process of a container and what nacre-vm says: watched, told to stop, killed
 *   guest_state.c    what is told of a guest: its state, its events, why it ended
 *   host_events.c    what happens behind the agent's back: devices that go, files that grow
 *   sweep.c          what is left of instances that are gone
 */

#include "base/job.h"
#include "base/tree.h"
#include "node/hypervisor.h"
#include "node/part.h"
#include "node/vmclient.h"

#define LOOK_PRIORITY (SD_EVENT_PRIORITY_NORMAL + 20) /* after all else in the loop */
#define SLOTS_MAX     CONTAINER_USERS

enum want { WANT_UNKNOWN, WANT_YES, WANT_NO };

struct guest {
	RB_ENTRY(guest) entry;
	struct hypervisor *h;
	char uid[37], id[INSTNET_ID_LEN + 1];
	/* Of its network namespace and its control group, so that agents of one machine have names of their own. */
	char name[INSTNET_NAME_MAX];
	char *dir, *state_dir; /* node/instdir.h */
	uid_t user;            /* QEMU's; 0: none chosen yet */
	enum want want;        /* unknown: adopted, and nobody has said yet */
	bool asked;            /* somebody deleted it */
	struct guest_spec spec;
	struct guest_state state;
	/* The last event while nobody had spoken of it; whoever hears of events doesn't know its Instance either. */
	struct {
		bool warning;
		char reason[32];
		char *message; /* NULL: there is none */
	} untold;
	uint64_t nft_state; /* net/nft.h */

	sd_event_source *wake; /* look at it again */
	struct job *job;       /* a look at it; NULL: none is under way */
	bool may_start;        /* that look may start its machine */
	bool going;            /* its removal has begun, and is ended before it is made again */
	bool again;            /* something happened that this look has not seen */
	unsigned failures;     /* of looks at it, in a row */
	bool quiet;            /* nothing has happened: it is only time for another look */
	bool in_round;         /* that look is one at many */
	bool due;              /* in the list of those that the next round looks at */
	TAILQ_ENTRY(guest) due_entry;

	pid_t pid; /* first process of its container; 0: none */
	int pidfd;
	sd_event_source *pid_io;
	uint64_t started_ns, not_before_ns;
	unsigned crashes; /* in a row */
	bool has_vars;    /* the machine may have UEFI variables (node/room.h) */
	bool ended; /* it has, and END says why as far as that is known: its variables are still to be looked at */
	struct vm_status end;
	bool stop_sent;
	uint64_t stop_by_ns; /* 0: it need not stop */

	struct vmclient *client;
	sd_event_source *connect;
	uint64_t connect_us; /* delay before the next attempt */
	struct vm_status vm; /* as told by nacre-vm */
	sd_event_source *show;
	uint64_t shown_since_ns; /* the window */
	unsigned shown;          /* times in it */
};

RB_HEAD(guests, guest);
RB_PROTOTYPE(guests, guest, entry, guest_compare)

struct hypervisor {
	struct hypervisor_config c;
	char *run_dir, *state_dir, *prefix, *program;
	int lock, state_lock;
	struct cgroups *cgroups;
	struct removed *removed;
	struct jobs *starts; /* looks that may start a machine */
	struct jobs *jobs;   /* all else: repairs, removals, the sweep, the probe */
	struct job *probe;   /* whether KVM works is just found out; NULL: that is decided */
	struct job *sweep;   /* no guest is looked at meanwhile */
	bool (*keep)(void *userdata, const char *uid);
	void *keep_userdata;
	struct error no_kvm; /* why not, where that was to be found out */
	struct part_host host;
	struct guests all;
	TAILQ_HEAD(, guest) due;
	struct round *round; /* node/round.c; NULL: none is under way */
	sd_event_source *round_timer;
	uint64_t restarts;
	struct nl *links; /* notifications of devices in `public` */
	sd_event_source *links_io;
	sd_event_source *room_timer;
};

/* hypervisor.c */
struct guest *hypervisor_find(const struct hypervisor *h, const char *uid);
/* It is gone; it is in no list. */
void guest_free(struct guest *i);

/* look.c: looks at it after so long, or earlier where that is due already. */
void guest_wake(struct guest *i, uint64_t delay_us);
/* The same, when it is time, for one that nothing has happened to. */
void guest_wake_quietly(struct guest *i);
/* What a look in a worker process is given; may_start is false. */
struct guest_look guest_look_of(const struct guest *i, struct guest_result *ret);

/* round.c: it is looked at together with others. */
void round_add(struct guest *i);
void round_drop(struct guest *i);
void round_free(struct hypervisor *h);

/* guest_process.c */
/* -ESRCH: it is gone. On any other failure it may be there, and is found again by the next look. */
int guest_watch(struct guest *i, pid_t pid, struct error *err) _must_use_;
/* Its first process is watched no more. */
void guest_forget_process(struct guest *i);
/* The first process of its container is no more. */
void guest_ended(struct guest *i);
/* Why it ended is known; GROWN: "", or how its UEFI variables have grown. */
void guest_end_known(struct guest *i, const char *grown);
void guest_kill(const struct guest *i);
/*
 * nacre-vm is asked to, and killed where it doesn't: code of the guest's may have taken it over, or it hangs. 1: it has
 * been killed, and its end tells the rest.
 */
int guest_stop(struct guest *i, struct error *err) _must_use_;

/* guest_state.c */
void guest_set_state(struct guest *i, enum guest_phase phase, const char *reason, const char *message);
/* Kept while nobody has spoken of the guest, for guest_tell_untold(). */
void guest_event(struct guest *i, bool warning, const char *reason, const char *message);
void guest_tell_untold(struct guest *i);
/* The machine has ended, and why; decides when the next one may start. */
void guest_note_end(struct guest *i, const struct vm_status *end);

/* host_events.c */
int host_events_start(struct hypervisor *h, struct error *err) _must_use_;
void host_events_stop(struct hypervisor *h);
