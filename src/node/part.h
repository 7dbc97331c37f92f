/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The parts that an instance is made of on its host. Each is a file part_NAME.c with one `const struct part part_NAME`,
 * and a line in PARTS below. Nothing else is needed to add one, except the file's line in meson.build.
 *
 * A look at a guest goes over this table. It runs in a worker process (base/job.h), one for a guest at a time and many
 * at once. A worker may be killed at any moment, and its look is then repeated: it finds what exists by looking, and a
 * container that was started outlives the worker. A look changes no state of the agent; its result says what it did.
 */

#include "api/instance.h"
#include "node/container.h"
#include "node/firewalls.h"
#include "node/guest.h"
#include "node/instdir.h"
#include "node/removed.h"
#include "node/secrets.h"
#include "node/seeds.h"

/* In the order in which they are made. */
#define PARTS(F)   \
	F(folder)  \
	F(image)   \
	F(disk)    \
	F(group)   \
	F(network) \
	F(seed)    \
	F(machine)

/* An Instance of this host, and what its parts look up about it. */
struct part_source {
	const struct instance *inst;
	const char *image_dir;
	/*
	 * The object of kind K, which a part `reads`, as the cache of the API has it now. NS is NULL if K has no
	 * namespaces. NULL: ERR says why; ENOENT: there is none.
	 */
	const void *(*get)(const struct part_source *s, const struct api_kind *k, const char *ns, const char *name,
	                   struct error *err);
	void *userdata; /* of `get` */
	bool known;     /* something of the instance is on the host */
	struct secrets *secrets;
	struct seeds *seeds; /* NULL: what the guest is told is not looked after */
};

/* What all guests of the host share. */
struct part_host {
	const char *prefix; /* of names of namespaces */
	const char *program, *state_dir;
	int public_fd; /* network namespace `public`; the worker keeps it */
	int64_t disk_overcommit;
	bool kvm;
	const struct cgroups *cgroups;
	const struct removed *removed; /* NULL: removed disks are not given back */
	const struct seeds *seeds;     /* what guests are told; NULL: nothing */
};

/* What a look found and did; also filled in when the look fails. */
struct guest_result {
	bool removed;    /* by parts_remove() */
	bool asked;      /* it was removed because somebody had deleted the instance */
	char reason[32]; /* of a failure: one word */
	pid_t pid;       /* a container that was found or started where none was known; 0: there is none */
	bool started;
	bool has_vars;     /* what was started has UEFI variables (node/room.h) */
	bool connected;    /* its network is there, as the spec says */
	uint64_t specs;    /* which spec: how often it had been changed */
	bool network_lost; /* its container is in another network namespace than the one with its name */
	struct instnet_state network;
	struct error firewall; /* which Firewalls are not applied, and why; code 0: all are; EAGAIN: no news */
	bool postponed;        /* a look in the pool `loads` must load the firewall's table (node/firewall.h) */
	bool end;              /* the look only found out why the machine ended */
	char grown[208];       /* how its UEFI variables have grown; "": they have not */
};

struct guest_look {
	const struct part_host *host;
	const char *uid, *id;        /* id: node/instnet.h */
	const char *name;            /* of its network namespace and its control group */
	const char *dir, *state_dir; /* node/instdir.h */
	uid_t user;                  /* QEMU's */
	pid_t pid;                   /* first process of its container; 0: none is known */
	bool may_start;
	bool asked;                    /* parts_remove(): somebody deleted it */
	const struct guest_spec *spec; /* parts_ensure() and parts_start() */
	struct firewalls_attached firewalls;
	size_t open_slices;   /* node/instnet.h */
	struct nl *netfilter; /* node/instnet.h */
	struct guest_result *ret;

	/* The machine and the container that will be started; `configure` fills them in. */
	struct vm_config vm;
	struct container_config container;
	char hostname[64];
};

/*
 * `desire` is called in the agent's loop, all other functions in a worker. All functions except `configure` may find
 * that their work was done before, completely or in part, and carry on. Functions that a part doesn't need are NULL.
 */
struct part {
	const char *name;
	const char *reason;  /* of a failure of ensure, configure and prepare; NULL: StartFailed */
	const char *missing; /* the reason if `desire` fails with -ENOENT */
	/* The kind of the objects that `desire` looks up; the agent watches all of them. */
	const struct api_kind *reads;
	/* True if INST names that object of this kind. Then INST is reconciled when the object changes. */
	bool (*names)(const struct instance *inst, const char *ns, const char *name);
	/*
	 * Fills in this part's share of SPEC from the API. The message of an error names object and field. -EAGAIN: not
	 * everything is known yet, and the Instance will be reconciled when it is.
	 */
	int (*desire)(const struct part_source *s, struct guest_spec *spec, struct error *err);
	/*
	 * Finds what an earlier agent left running. Called before all other functions if no process of the guest is
	 * known.
	 */
	int (*adopt)(struct guest_look *l, struct error *err);
	/* Makes what must exist whether the machine runs or not, and repairs it while it runs. Every look calls it. */
	int (*ensure)(struct guest_look *l, struct error *err);
	/*
	 * The machine is about to start: fills in this part's share of `vm` and `container`. Only looks at the host and
	 * changes nothing.
	 */
	int (*configure)(struct guest_look *l, struct error *err);
	/* All parts have been configured: makes what only a running machine needs. The last part starts the machine. */
	int (*prepare)(struct guest_look *l, struct error *err);
	/*
	 * Called in the opposite order, so nothing is removed while something still uses it. A missing part is success.
	 */
	int (*remove)(struct guest_look *l, struct error *err);
};

#define PART_DECLARE(name) extern const struct part part_##name;
PARTS(PART_DECLARE)

#define PART_COUNT(name) +1
enum { N_PARTS = 0 PARTS(PART_COUNT) };
extern const struct part *const parts[N_PARTS];

/*
 * Fills in what the guest of S->inst must be. 1: not everything that it needs is known yet. On an error *RET_REASON is
 * one word for a condition.
 */
int parts_desire(const struct part_source *s, struct guest_spec *ret, const char **ret_reason,
                 struct error *err) _must_use_;

/*
 * Adopts what runs, makes and repairs the parts, and starts the machine if it must run, doesn't run, and may be
 * started.
 */
int parts_ensure(struct guest_look *l, struct error *err) _must_use_;
/* Starts the machine; the caller knows that none runs. */
int parts_start(struct guest_look *l, struct error *err) _must_use_;
/* Removes all parts of the instance. */
int parts_remove(struct guest_look *l, struct error *err) _must_use_;
