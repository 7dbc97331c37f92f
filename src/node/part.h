/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The parts that an instance is made of on its host: a file part_NAME.c with one `const struct part part_NAME` for
 * each, and a line in PARTS below. That is all that is needed to add one, beside the file's line in meson.build.
 *
 * A look at a guest goes over this table. It runs in a worker process (base/job.h), one for a guest at a time and many
 * at once. It may be killed at any moment and then is done again: whatever is there is found by looking, and a
 * container that was started outlives the worker. It changes no state of the agent; what it did is in its result.
 */

#include "api/instance.h"
#include "node/container.h"
#include "node/guest.h"
#include "node/removed.h"

/* In the order in which they are made. */
#define PARTS(F)   \
	F(folder)  \
	F(image)   \
	F(disk)    \
	F(group)   \
	F(network) \
	F(machine)

/* An Instance of this host, and what its parts look up about it. */
struct part_source {
	const struct instance *inst;
	const char *image_dir;
	/* The object of kind K, which a part `reads`, as the API has it now; NULL: there is none. NS NULL: K has none.
	 */
	const void *(*get)(const struct part_source *s, const struct api_kind *k, const char *ns, const char *name);
	void *userdata; /* of `get` */
};

/* What all guests of the host share. */
struct part_host {
	const char *prefix; /* of names of namespaces */
	const char *program, *state_dir;
	int public_fd; /* network namespace `public`; the worker keeps it */
	int64_t disk_overcommit;
	bool kvm;
	const struct cgroups *cgroups;
	const struct removed *removed; /* NULL: disks are not given back */
};

/* What a look found and did; filled in also when it fails. */
struct guest_result {
	bool removed;    /* by parts_remove(), */
	bool asked;      /* as somebody had deleted it */
	char reason[32]; /* of a failure: one word */
	pid_t pid;       /* a container that was found or started where none was known; 0: there is none */
	bool started;
	bool has_vars;     /* what was started has UEFI variables (node/room.h) */
	bool connected;    /* its network is there */
	bool network_lost; /* its container is in another network namespace than that of this name */
	uint64_t nft_state;
	bool end;        /* the look was one at why the machine ended, and nothing else */
	char grown[208]; /* how its UEFI variables have grown; "": they have not */
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
	struct guest_result *ret;

	/* What is started, from `configure` on. */
	struct vm_config vm;
	struct container_config container;
	char hostname[64];
};

/*
 * `desire` is called in the agent's loop, all else in a worker. All functions but `configure` find done what was done
 * before, and carry on. What a part doesn't need is NULL.
 */
struct part {
	const char *name;
	const char *reason;  /* of a failure of ensure, configure and prepare; NULL: StartFailed */
	const char *missing; /* the reason if `desire` fails with -ENOENT */
	/* The kind of the objects that `desire` looks up; the agent watches all of them. */
	const struct api_kind *reads;
	/* Does INST name that object of this kind? Then it is reconciled when the object changes. */
	bool (*names)(const struct instance *inst, const char *ns, const char *name);
	/* Fills in this part's share of SPEC from the API. The message of an error names object and field. */
	int (*desire)(const struct part_source *s, struct guest_spec *spec, struct error *err);
	/* Finds what an agent before this one left running. Called where no process of the guest is known, before all
	 * else. */
	int (*adopt)(struct guest_look *l, struct error *err);
	/* Makes what is there whether the machine runs or not, and repairs it while it runs. Each look does so. */
	int (*ensure)(struct guest_look *l, struct error *err);
	/* The machine is to start: fills in this part's share of `vm` and `container`. Looks at the host, and changes
	 * nothing. */
	int (*configure)(struct guest_look *l, struct error *err);
	/* All have been configured: makes what only a machine that runs needs. The last part starts it. */
	int (*prepare)(struct guest_look *l, struct error *err);
	/* In the opposite order, so nothing is removed while anything runs. A missing part is success. */
	int (*remove)(struct guest_look *l, struct error *err);
};

#define PART_DECLARE(name) extern const struct part part_##name;
PARTS(PART_DECLARE)

#define PART_COUNT(name) +1
enum { N_PARTS = 0 PARTS(PART_COUNT) };
extern const struct part *const parts[N_PARTS];

/*
 * What the guest of S->inst shall be. 1: the controller has not given it all that it needs. On an error *RET_REASON is
 * one word for a condition.
 */
int parts_desire(const struct part_source *s, struct guest_spec *ret, const char **ret_reason,
                 struct error *err) _must_use_;

/* Adopts what runs, makes it so, and starts the machine where it shall run, doesn't, and may be started. */
int parts_ensure(struct guest_look *l, struct error *err) _must_use_;
/* Starts the machine; none runs. */
int parts_start(struct guest_look *l, struct error *err) _must_use_;
/* Nothing of it is left then. */
int parts_remove(struct guest_look *l, struct error *err) _must_use_;
