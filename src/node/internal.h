/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the files of the hypervisor share (node/hypervisor.h). All of it runs on the loop's thread and never waits.
 *
 *   hypervisor.c     the hypervisor's life: folders, locks, adoption, KVM or not; requests
 *   look.c           when a guest is looked at, by which worker, and what follows from the result
 *   members.c        members of groups come and go, mostly without a look
 *   round.c          one worker looks at many guests to which nothing has happened
 *   guest_process.c  watches, stops and kills the first process of a container; hears nacre-vm
 *   guest_state.c    what is reported about a guest: its state, its events, why it ended
 *   host_events.c    what happens behind the agent's back: devices that go, files that grow
 *   firewall_watch.c what the firewalls of guests drop and let pass
 *   slices.c         how much guests use their slices of ports, and what follows (node/ports.h)
 *   sweep.c          removes what is left of instances that are gone
 */

#include "base/job.h"
#include "base/tree.h"
#include "node/hypervisor.h"
#include "node/part.h"
#include "node/ports.h"
#include "node/vmclient.h"

#define LOOK_PRIORITY (SD_EVENT_PRIORITY_NORMAL + 20) /* after everything else in the loop */
#define SLOTS_MAX     CONTAINER_USERS

enum want { WANT_UNKNOWN, WANT_YES, WANT_NO };

struct guest {
	RB_ENTRY(guest) entry;
	struct hypervisor *h;
	char uid[37], id[INSTNET_ID_LEN + 1];
	/*
	 * The name of its network namespace and of its control group. It has the agent's prefix, so agents of one
	 * machine have different names.
	 */
	char name[INSTNET_NAME_MAX];
	char *dir, *state_dir; /* node/instdir.h */
	uid_t user;            /* QEMU's uid; 0: none chosen yet */
	enum want want;        /* unknown: adopted, and nobody has asked for it yet */
	bool asked;            /* somebody deleted it */
	struct guest_spec spec;
	uint64_t specs; /* how often the spec was changed */
	struct guest_state state;
	uint64_t guard_changes; /* how often its Firewalls or members of their groups may have changed */
	uint64_t counted_ns;    /* when its rules' counters were last read; 0: never */
	uint64_t told_ns;       /* when they were last told, since they had changed; 0: never */
	unsigned lines;         /* of dropped packets, since LINES_SINCE_NS */
	uint64_t lines_since_ns;
	uint64_t watched_ns; /* when what its firewall has dropped was last read; 0: never */
	struct ports ports;
	/*
	 * The last event before anybody has asked for the guest; the receiver of events doesn't know its Instance by
	 * then.
	 */
	struct {
		bool warning;
		char reason[32];
		char *message; /* NULL: there is none */
	} untold;
	struct instnet_state network;
	/*
	 * A netfilter socket in the guest's namespace, once members of its groups have changed. Workers use it one
	 * after the other and needn't close it: the kernel frees what a transaction has removed after a grace period of
	 * RCU, and whoever closes a netfilter socket earlier waits for that with the namespace's rules locked, which
	 * would hold up the next change. NULL: none.
	 */
	struct nl *netfilter;

	sd_event_source *wake; /* look at it again */
	struct job *job;       /* the look at it; NULL: no look is under way */
	struct jobs *pool;     /* whose workers do that look */
	bool may_start;        /* that look may start its machine */
	bool large;            /* its firewall's table must be loaded, and has many elements */
	bool going;            /* its removal has begun, and must end before it is made again */
	bool again;            /* something happened that this look has not seen */
	uint64_t following;    /* node/members.c: the number of the request that is under way; 0: none is */
	bool more;             /* members have changed since that request */
	bool unsent;           /* in the list of guests for which a request has had no room */
	TAILQ_ENTRY(guest) unsent_entry;
	struct firewall_state followed; /* what is in the kernel once that request is answered */
	unsigned failures;              /* of looks at it, in a row */
	bool quiet;                     /* nothing has happened; only the interval is over */
	bool in_round;                  /* that look is part of a round */
	bool due;                       /* in the list of guests for the next round */
	TAILQ_ENTRY(guest) due_entry;

	pid_t pid; /* first process of its container; 0: none */
	int pidfd;
	sd_event_source *pid_io;
	uint64_t started_ns, not_before_ns;
	unsigned crashes; /* in a row */
	bool has_vars;    /* the machine may have UEFI variables (node/room.h) */
	bool ended;       /* it has ended; END is the reason so far; its UEFI variables must still be checked */
	struct vm_status end;
	bool stop_sent;
	uint64_t stop_by_ns; /* deadline of a stop; 0: it need not stop */

	struct vmclient *client;
	sd_event_source *connect;
	uint64_t connect_us; /* delay before the next attempt */
	struct vm_status vm; /* the last status from nacre-vm */
	sd_event_source *show;
	uint64_t shown_since_ns; /* begin of the window */
	unsigned shown;          /* shown so often in it */
};

RB_HEAD(guests, guest);
RB_PROTOTYPE(guests, guest, entry, guest_compare)

struct hypervisor {
	struct hypervisor_config c;
	char *run_dir, *state_dir, *prefix, *program;
	int lock, state_lock;
	struct cgroups *cgroups;
	struct removed *removed;
	struct jobs *starts;   /* looks that may start a machine */
	struct jobs *removals; /* looks that remove a guest, and the search for disks without a guest */
	struct jobs
		*loads;    /* looks that load a large table of a firewall, so that many of them hold up no other look */
	struct jobs *jobs; /* all other jobs: repairs, the sweep, the probe */
	struct members *members;
	TAILQ_HEAD(, guest) unsent; /* node/members.c: guests whose requests wait for room */
	uint64_t members_sent, members_refused;
	struct job *probe;      /* the probe of KVM; NULL: it is decided whether KVM is used */
	struct job *sweep;      /* no guest is looked at while it runs */
	struct job *find_disks; /* disks of instances that nobody knows; NULL: all have been found */
	bool sweep_again;       /* hypervisor_sweep() was called while one of these two jobs ran */
	bool (*keep)(void *userdata, const char *uid);
	void *keep_userdata;
	struct error no_kvm; /* why KVM doesn't work, if it was probed */
	struct part_host host;
	struct guests all;
	TAILQ_HEAD(, guest) due;
	struct round *round; /* node/round.c; NULL: none is under way */
	sd_event_source *round_timer;
	uint64_t restarts;
	struct nl *links; /* notifications of devices in `public` */
	sd_event_source *links_io;
	sd_event_source *room_timer;
	sd_event_source *slices_timer;
	sd_event_source *watch_timer;
	struct slices_look *slices_look;  /* under way; NULL: none */
	struct watch_look *watch_look;    /* under way; NULL: none */
	char watch_after[37];             /* the next look at firewalls is at guests with a greater uid */
	uint64_t counted_ns;              /* when the counters of a guest's rules were last read */
	uint64_t dropped_in, dropped_out; /* packets, since this process began */
	char slices_after[37];            /* the next look at slices is at guests with a greater uid */
	uint64_t refused;                 /* connections for which there was no port */
};

/* hypervisor.c */
struct guest *hypervisor_find(const struct hypervisor *h, const char *uid);
/* The Firewalls that select the guest now. */
void guest_firewalls(const struct guest *i, struct firewalls_attached *ret);
/* Frees the guest, which must be in no list. */
void guest_free(struct guest *i);
/* Forgets the counters of its rules. */
void guest_free_counts(struct guest *i);

/* look.c: looks at the guest after DELAY_US microseconds, or earlier if an earlier look is due. */
void guest_wake(struct guest *i, uint64_t delay_us);
/* Looks at a guest to which nothing has happened, at the next regular time. */
void guest_wake_quietly(struct guest *i);
/* Notes what a look has found in the guest's namespace. */
void guest_set_network(struct guest *i, const struct instnet_state *now);
/* Fills in what a look in a worker process is given; may_start is false and there is no netfilter socket. */
void guest_look_of(const struct guest *i, struct guest_result *ret, struct guest_look *l);

/*
 * members.c: one process changes the elements of sets, one guest after the other. It is started with this one, and
 * again if it should end. A worker for each change would cost more the more members there are, since the kernel copies
 * the tables of all this process's memory for it.
 */
int members_new(struct members **ret, struct hypervisor *h, struct error *err) _must_use_;
struct members *members_free(struct members *m);
/* Members of the guest's groups have changed. */
void members_changed(struct guest *i);
/* The guest goes. */
void members_drop(struct guest *i);

/* round.c: the guest is looked at together with others. */
void round_add(struct guest *i);
void round_drop(struct guest *i);
void round_free(struct hypervisor *h);

/* guest_process.c */
/* -ESRCH: the process is gone. After any other failure it may still run; the next look finds it again. */
int guest_watch(struct guest *i, pid_t pid, struct error *err) _must_use_;
/* Watches the guest's first process no more. */
void guest_forget_process(struct guest *i);
/* The first process of the guest's container has ended. */
void guest_ended(struct guest *i);
/* It is known why the guest ended; GROWN: "", or how its UEFI variables have grown. */
void guest_end_known(struct guest *i, const char *grown);
void guest_kill(const struct guest *i);
/*
 * Asks nacre-vm to stop the machine, and kills both if nacre-vm doesn't do it in time: the guest may have taken it
 * over, or it hangs. 1: it has been killed, and the rest follows from its end.
 */
int guest_stop(struct guest *i, struct error *err) _must_use_;

/* guest_state.c */
void guest_set_state(struct guest *i, enum guest_phase phase, const char *reason, const char *message);
/* Reports an event. While nobody has asked for the guest, the event is kept for guest_tell_untold(). */
void guest_event(struct guest *i, bool warning, const char *reason, const char *message);
void guest_tell_untold(struct guest *i);
/* The machine has ended for the reason END; decides when the next one may start. */
void guest_note_end(struct guest *i, const struct vm_status *end);

/* host_events.c */
int host_events_start(struct hypervisor *h, struct error *err) _must_use_;
void host_events_stop(struct hypervisor *h);

/*
 * slices.c: one worker looks at many guests. It ends after the guest at which the time UNTIL_NS (monotonic) has come,
 * so that a host where looks are slow gets to all guests in turn.
 */
#define SLICES_GUESTS 64
struct slices_look {
	struct hypervisor *h;
	uint64_t now_ns;
	size_t n;
	char uid[SLICES_GUESTS][37];
};
struct slices_seen {
	size_t n;    /* it looked at so many of them */
	uint64_t ok; /* a bit for each guest */
	struct ports_look look[SLICES_GUESTS];
};
void slices_see(const struct slices_look *l, uint64_t until_ns, struct slices_seen *ret);

/* slices.c: looks at the guests' use of ports after DELAY_US microseconds, and then again and again. */
void slices_watch(struct hypervisor *h, uint64_t delay_us);

/* firewall_watch.c: looks at the guests' firewalls after DELAY_US microseconds, and then again and again. */
void firewall_watch(struct hypervisor *h, uint64_t delay_us);

/* True if the last packet of a flow, AGE_MS before NOW_NS, came after the last look (0: there was none). */
bool watch_is_news(uint32_t age_ms, uint64_t now_ns, uint64_t last_ns);
/* A place in one of several lists. */
struct watch_turn {
	size_t list, place;
};
/* Chooses up to MAX entries of N lists with LEN[] entries each: in turn one of each list. Returns how many. */
size_t watch_turns(const size_t *len, size_t n, struct watch_turn *ret, size_t max);
