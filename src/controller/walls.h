/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The Firewalls of each namespace, the instances that they select, and the groups that the peers of their rules make.
 * The index (walls.c) only notes what changed. evaluation.c compares instances with Firewalls, in the short turns of
 * groups.c, which writes the groups of an instance into the status of its Endpoint. firewalls.c says in the status of a
 * Firewall what is known here, and what sums.c has added up.
 *
 * An instance is evaluated anew if its labels, its host or what its agent says about its firewall changes. If a
 * Firewall changes, a pass over all instances of its namespace, in order of name, evaluates what changed. Both goes on
 * in later turns as long as it takes, and a namespace has one turn at a time.
 *
 * Nothing here is kept elsewhere: a controller that begins to act passes over everything.
 */

#include "api/firewall.h"
#include "api/instance.h"
#include "base/tree.h"
#include "controller/work.h"

/* A group that a Firewall's rule names, or that an instance is in. */
struct wall_group {
	RB_ENTRY(wall_group) node;
	char id[FIREWALL_GROUP_ID_MAX];
	struct api_selector peers;
	size_t users;   /* Firewalls that name it; 0: its instances leave it in the next pass */
	size_t members; /* instances in it */
};

/* A Firewall. */
struct wall {
	RB_ENTRY(wall) node;     /* of one that exists */
	TAILQ_ENTRY(wall) entry; /* in `recent`, or in `gone` */
	struct api_selector instances;
	struct firewall_size size;         /* without its groups' selectors */
	struct wall_group **groups;        /* size.n_groups in order of id; NULL if these are too many */
	size_t number;                     /* of its bit in instances */
	uint64_t changed;                  /* the number of its last change in the namespace */
	size_t selected, bad;              /* instances that it selects; and where it isn't applied as it says */
	const struct wall_member *example; /* one of the latter, the first one by name; NULL: not known now */
	uint64_t status_us, counted_us;    /* monotonic: when its status and the counters in it were last written */
	char name[];
};

/* An instance. */
struct wall_member {
	RB_ENTRY(wall_member) node, by_time;
	TAILQ_ENTRY(wall_member) entry;
	enum { MEMBER_IDLE, MEMBER_DIRTY, MEMBER_LATER } state; /* the list that it is in */
	bool evaluate; /* anew; otherwise only its Endpoint is compared with what is known */
	bool crowded;  /* it could not be put into a group: it is in too many, or the group has too many */
	uint16_t n_groups;
	struct wall_group **groups; /* in order of id */
	size_t words;               /* of each half of bits */
	uint64_t *bits;             /* by number: the Firewalls that select it; those that aren't applied as they say */
	uint64_t due_us;            /* monotonic: its Endpoint isn't written before */
	char name[];
};

RB_HEAD(wall_groups, wall_group);
RB_HEAD(walls_by_name, wall);
RB_HEAD(wall_members, wall_member);
RB_HEAD(wall_members_by_time, wall_member);

/* The instance that is being evaluated. Begun anew if a Firewall of the namespace changes, or the instance. */
struct wall_evaluation {
	struct wall_member *member; /* NULL: none */
	struct wall *next;          /* the Firewall to go on with; NULL: all were looked at */
	uint64_t from;              /* looks at Firewalls that changed after this; 0: at all, and at all groups */
	bool judge;                 /* a Firewall that changed selects it, or selected it */
	bool crowded;
	size_t n_groups;
	struct wall_group *groups[ENDPOINT_GROUPS_MAX];
	size_t words;   /* of each half of bits */
	uint64_t *bits; /* what wall_member.bits becomes */
};

/* A namespace with instances or Firewalls. */
struct wall_ns {
	RB_ENTRY(wall_ns) node;
	struct walls_by_name walls;
	TAILQ_HEAD(wall_list, wall) recent, gone; /* in order of `changed` */
	size_t n_walls;
	struct wall_groups groups;
	struct wall_members members;
	TAILQ_HEAD(, wall_member) dirty;
	struct wall_members_by_time later; /* dirty once they are due */
	uint64_t *numbers;                 /* bits of the numbers that are in use */
	size_t words;                      /* of these */
	uint64_t changes;                  /* the number of the last change of a Firewall */
	uint64_t done;                     /* up to this change all instances are evaluated */
	bool everything;                   /* the pass evaluates all instances anew */
	bool passing;
	uint64_t to;                /* what `done` is after the pass */
	struct wall_member *passed; /* the next one in the pass; NULL: the end */
	bool turn;                  /* whether an instance of the pass comes next, or a dirty one */
	struct wall_evaluation now;
	char name[];
};

struct walls;
struct walls *walls_of(const struct controller *c);
/* NULL: no instance and no Firewall of the namespace is known. */
struct wall_ns *wall_ns_find(const struct walls *w, const char *ns);
struct wall *wall_find(const struct wall_ns *n, const char *name);
struct wall *wall_first(const struct wall_ns *n); /* by name; NULL: there is none */
struct wall *wall_next(struct wall *w);
struct wall_member *wall_member_find(const struct wall_ns *n, const char *name);
struct wall_member *wall_member_first(const struct wall_ns *n); /* by name; NULL: there is none */
struct wall_member *wall_member_next(struct wall_member *m);

/* All instances are to be compared with W once more. */
void wall_touch(struct wall_ns *n, struct wall *w);
/* True if everything is known about W as it is now, but for instances that have changed since. */
bool wall_is_evaluated(const struct wall_ns *n, const struct wall *w);
/* Frees W, which is gone, and its number. */
void wall_forget(struct wall_ns *n, struct wall *w);
/* The status of W is looked at, soon. */
void wall_queue_status(struct controller *c, const struct wall_ns *n, const struct wall *w);
void wall_group_ref(struct wall_group *g);
void wall_group_unref(struct wall_ns *n, struct wall_group *g); /* of a member */

/* M is looked at in a turn, or only from DUE_US on. */
void wall_member_dirty(struct wall_ns *n, struct wall_member *m, bool evaluate);
void wall_member_later(struct wall_ns *n, struct wall_member *m, uint64_t due_us);
void wall_member_clean(struct wall_ns *n, struct wall_member *m);
/* Those in `later` that are due become dirty. Returns when the next one is due; 0: there is none. */
uint64_t wall_members_wake(struct wall_ns *n, uint64_t now_us);

bool wall_bit(const uint64_t *bits, const struct wall *w);
void wall_set_bit(uint64_t *bits, const struct wall *w, bool on);

/* What the agent of I says if it could not apply the Firewalls; NULL: nothing. */
const struct api_condition *wall_refusal(const struct instance *i);

/* ---- evaluation.c ---- */

/* Begins to evaluate M: anew if it is to be, otherwise for the changes after FROM. */
void evaluation_begin(struct wall_ns *n, struct wall_member *m, uint64_t from);
/* Goes on until DEADLINE_NS (monotonic). True: it is done, and all is noted; *RET_GROUPS: its groups may differ. */
bool evaluation_run(struct controller *c, struct wall_ns *n, const struct instance *i, uint64_t deadline_ns,
                    bool *ret_groups);
/* Says why W isn't applied to M as it says: the reason of a condition, and a message of up to 1,024 bytes. */
const char *evaluation_reason(const struct controller *c, const struct wall_ns *n, const struct wall *w,
                              const struct wall_member *m, char msg[static 1024]);

/* ---- groups.c ---- */

/* True if the Endpoint of M doesn't have the groups that M is in. */
bool groups_differ(const struct controller *c, const struct wall_ns *n, const struct wall_member *m);
void groups_queue(struct controller *c, const struct wall_ns *n);

/* ---- sums.c: counters of rules, summed over the instances of a namespace ---- */

struct sums;
struct sums *sums_new(void);
void sums_free(struct sums *s);
/* An instance of namespace NS counted WAS (NULL: nothing), and now IS. TOLD is called for each Firewall concerned. */
void sums_change(struct sums *s, const char *ns, const struct instance_firewall *was,
                 const struct instance_firewall *is,
                 void (*told)(struct controller *c, const char *ns, const char *firewall), struct controller *c);
/*
 * Fills V with the sums of a Firewall, those with the most packets first, and returns their number. The strings belong
 * to S.
 */
size_t sums_list(const struct sums *s, const char *ns, const char *firewall,
                 struct firewall_counter v[static FIREWALL_COUNTERS_MAX]);
struct sums *walls_sums(const struct controller *c);
