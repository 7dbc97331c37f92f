/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Access to a kind is declared with the kind (api_kind.access). These tables determine
 * - the roles: deploy/rbac.yaml, and the default roles of nacre-apiserver (roles.h),
 * - what nacre-apiserver lets agents see and write (apiserver/auth/restrict.h),
 * - the policy by which a kube-apiserver checks what agents write (admission.h),
 * - what docs/api.md says about access.
 * Lists of words are strings with one blank between the words.
 */

#include <jansson.h>

#include "api/api.h"

#define ACCESS_READ  "get list watch"
#define ACCESS_WRITE "create update patch delete deletecollection"

/* The roles. roles.c has their names and the subjects that they are granted to. */
enum access_role {
	ACCESS_NOBODY, /* ends a list of grants */
	ACCESS_CONTROLLER,
	ACCESS_HOSTS, /* struct access_agents adds to the grants of these three */
	ACCESS_EDGES,
	ACCESS_BALANCERS,
	ACCESS_TENANT_VIEW,
	ACCESS_TENANT_EDIT, /* includes the grants of ACCESS_TENANT_VIEW */
	ACCESS_EVERYBODY,   /* every authenticated user */
	ACCESS_KUBE_VIEW,   /* for Kubernetes' own roles on its own kinds, which deploy/rbac.yaml omits */
	ACCESS_KUBE_EDIT,
	ACCESS_KUBE_ADMIN,
};

struct access_grant {
	enum access_role role;
	const char *parts; /* "." is the object itself, other words are subresources */
	const char *verbs;
	const char *ns; /* only in this namespace; NULL: everywhere */
};

/* Which agents: nacre-node of a host, nacre-edge of an edge, nacre-lb of a balancer (agents.h). */
enum {
	ACCESS_OF_HOST = 1 << 0,
	ACCESS_OF_EDGE = 1 << 1,
	ACCESS_OF_BALANCER = 1 << 2,
	ACCESS_OF_ALL = ACCESS_OF_HOST | ACCESS_OF_EDGE | ACCESS_OF_BALANCER,
};

/* An agent. HOST is the name of its Host. */
struct access_agent {
	const char *what; /* "host", "edge" or "balancer", for messages */
	const char *host;
	unsigned whose; /* one of ACCESS_OF_… */
};

/* A write of an agent that is to be checked. A rule may look up other objects. */
struct access_write {
	const struct access_agent *agent;
	const char *ns;          /* "" for a cluster-scoped kind */
	const json_t *old, *obj; /* OLD NULL: OBJ is being created */
	const void *store;       /* the first argument of load and find */
	/*
	 * Returns an object, a new reference; NULL: it doesn't exist. NS and NAME may be NULL; then no object exists.
	 */
	json_t *(*load)(const void *store, const struct api_kind *k, const char *ns, const char *name);
	/*
	 * Returns the name of the first object for which FITS is true, valid until the rule returns; NULL: there is
	 * none.
	 */
	const char *(*find)(const void *store, const struct api_kind *k,
	                    bool (*fits)(const json_t *obj, const void *of), const void *of);
};

/* A read of one object by an agent, which its role allows. NS is "" for a cluster-scoped kind. */
struct access_read {
	const struct access_agent *agent;
	const char *ns, *name;
	const void *store; /* the first argument of load */
	json_t *(*load)(const void *store, const struct api_kind *k, const char *ns, const char *name);
};

/*
 * A rule about writes that the table can't express: as a C function `check` for nacre-apiserver, and in CEL for a
 * kube-apiserver. Neither is evaluated for deletions. CEL may be NULL: a policy can't look up other objects.
 */
struct access_rule {
	unsigned whose; /* the agents that the rule applies to */
	/* The end of the sentence "the agent of h1 …". It contains no quotes and no backslashes. */
	const char *says;
	/* 0: the write is allowed; -EPERM: it isn't, and ERR says why. */
	int (*check)(const struct access_write *w, struct error *err);
	/*
	 * True if the write is allowed. admission.c declares its variables, such as variables.host. A limit of a string
	 * is in bytes, as in C: CEL's size() of a string counts characters, so a rule uses size(bytes(…)).
	 */
	const char *cel;
};

/*
 * What agents may do with a kind. An object is an agent's own if its field OWN is OWN_PREFIX followed by the name of
 * the agent's Host, and it is in namespace NS. It must be the agent's own before and after each write. No agent may
 * write labels, annotations, owner references or finalizers, use server-side apply, or delete collections.
 */
struct access_agents {
	unsigned whose;  /* other agents may neither see nor write the kind; 0: no agent may */
	const char *own; /* a path such as "status.host"; NULL: no object is an agent's own, so agents write none */
	const char *own_prefix; /* NULL: no prefix */
	const char *ns;         /* NULL: any namespace. The grants of the agents are limited to this namespace */
	bool sees_all;          /* agents also see objects that are not their own */
	/*
	 * In place of OWN and SEES_ALL: whether the agent may get this object, even if a role gives it more. Nobody may
	 * list or watch then. A kube-apiserver asks only the roles. SEES_ONLY, for people: "Secrets that …".
	 */
	bool (*sees)(const struct access_read *r);
	const char *sees_only;
	const char *reads; /* verbs for reading in the roles of the agents; NULL: none */
	/*
	 * The members of spec (for `status`: of status) that a create may set and an update may change. "*": the whole
	 * object; "": the write is allowed, but may change no member; NULL: the write is not allowed.
	 */
	const char *creates, *updates, *status;
	bool deletes;
	size_t max_bytes; /* limit for an object that an agent writes, as JSON; 0: only the general limit applies */
	bool counts;      /* the number of creates of each agent is limited (LIMIT_EVENTS) */
	const struct access_rule *rules; /* ends with whose 0; may be NULL */
};

struct api_access {
	const struct access_grant *grants; /* ends with ACCESS_NOBODY; NULL: none */
	struct access_agents agents;
};

/* For kinds that only the operator may access (system:masters, cluster-admin). */
extern const struct api_access access_operator;

/*
 * The limit in bytes for each object that an agent creates by itself: Endpoints, Leases and Events. Their number is
 * limited by their names, which belong to one object each, and for Events by LIMIT_EVENTS.
 */
#define ACCESS_SMALL ((size_t)8 << 10)

/* Calls FN for each grant on K, including those of the agents. G is valid until FN returns. */
void access_each_grant(const struct api_kind *k,
                       void (*fn)(const struct api_kind *k, const struct access_grant *g, void *userdata),
                       void *userdata);

/* Returns what agents of WHOSE may do with K; NULL: nothing. */
const struct access_agents *access_agents(const struct api_kind *k, unsigned whose);
bool access_agents_write(const struct access_agents *g);
/*
 * Returns the value that G->own has in the objects of agent A. The caller frees it. NULL: no memory; then no object is
 * A's.
 */
char *access_own_value(const struct access_agents *g, const struct access_agent *a);
/* True if OBJ is A's own by its field G->own; the namespace is not checked. OBJ may be NULL: false. */
bool access_is_own(const struct access_agents *g, const struct access_agent *a, const json_t *obj);

/* Returns the string at a path of members ("status.host"), borrowed; NULL: there is none. */
const char *access_string(const json_t *obj, const char *path);

/* Returns the next word at *P and its length in *LEN, and moves *P past it. NULL: there are no more. *P may be NULL. */
const char *access_next_word(const char **p, size_t *len);
bool access_has_word(const char *words, const char *word);
/* Prints "a, b and c" with QUOTE before and after each word. */
void access_print_words(struct buf *out, const char *words, const char *quote);
