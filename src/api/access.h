/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who may do what with a kind, declared beside it (api_kind.access). From these tables are made
 * - the roles: deploy/rbac.yaml and those that nacre-apiserver has from the start (roles.h),
 * - what nacre-apiserver lets agents see and write (apiserver/auth/restrict.h),
 * - the policy that a kube-apiserver asks about what agents write (admission.h),
 * - what docs/api.md says about access.
 * Lists are words, separated by one blank.
 */

#include <jansson.h>

#include "api/api.h"

#define ACCESS_READ  "get list watch"
#define ACCESS_WRITE "create update patch delete deletecollection"

/* The roles; roles.c has their names and to whom they are given. */
enum access_role {
	ACCESS_NOBODY, /* ends a list of grants */
	ACCESS_CONTROLLER,
	ACCESS_HOSTS, /* what struct access_agents says is added to these two */
	ACCESS_EDGES,
	ACCESS_TENANT_VIEW,
	ACCESS_TENANT_EDIT, /* includes what ACCESS_TENANT_VIEW has */
	ACCESS_EVERYBODY,   /* who is authenticated */
	ACCESS_KUBE_VIEW,   /* what Kubernetes' own roles grant on its own kinds; deploy/rbac.yaml has none of it */
	ACCESS_KUBE_EDIT,
	ACCESS_KUBE_ADMIN,
};

struct access_grant {
	enum access_role role;
	const char *parts; /* "." is the object itself, other words are subresources */
	const char *verbs;
	const char *ns; /* only in this namespace; NULL: everywhere */
};

/* Whose agents: nacre-node of a host, nacre-edge of an edge. */
enum { ACCESS_OF_HOST = 1 << 0, ACCESS_OF_EDGE = 1 << 1 };

/* One agent. HOST is the name of its Host. */
struct access_agent {
	const char *what; /* "host" or "edge", for messages */
	const char *host;
	unsigned whose; /* one of ACCESS_OF_… */
};

/* What an agent is about to write, and how a rule looks up other objects. */
struct access_write {
	const struct access_agent *agent;
	const char *ns;          /* "": the kind has none */
	const json_t *old, *obj; /* OLD NULL: it is created */
	const void *store;       /* for the two functions below */
	/* A new reference, NULL: there is no such object. NS and NAME may be NULL, which is no object. */
	json_t *(*load)(const void *store, const struct api_kind *k, const char *ns, const char *name);
	/* The name of the first object that FITS, valid until the rule returns; NULL: none. */
	const char *(*find)(const void *store, const struct api_kind *k,
	                    bool (*fits)(const json_t *obj, const void *of), const void *of);
};

/*
 * What the table can't say about a write, in both of its forms: `check` for nacre-apiserver, CEL for a kube-apiserver.
 * Neither is asked about deletions. Either may be NULL: a policy can't look up other objects, and nacre-apiserver
 * bounds some things for everybody.
 */
struct access_rule {
	unsigned whose; /* which agents it holds for */
	/* How the sentence "the agent of h1 …" goes on; without quotes and backslashes. */
	const char *says;
	/* 0, or -EPERM and ERR filled in. */
	int (*check)(const struct access_write *w, struct error *err);
	/* True if the write is allowed. Variables of the policy, such as variables.host, are in admission.c. */
	const char *cel;
};

/*
 * What agents may do with a kind. An object is an agent's own if the field OWN holds OWN_PREFIX and the name of the
 * agent's Host, and it is in namespace NS; before and after each write it must be the agent's own. Nobody's agent may
 * write labels, annotations, owner references or finalizers, apply, or delete collections.
 */
struct access_agents {
	unsigned whose;         /* other agents may neither see nor write any; 0: none may */
	const char *own;        /* path, as "status.host"; NULL: there are no own objects, so agents write none */
	const char *own_prefix; /* NULL: none */
	const char *ns;         /* NULL: any. The role of the agents is for this namespace alone */
	bool sees_all;          /* objects of others, too */
	const char *reads;      /* verbs that the roles of the agents have for reading; NULL: none */
	/*
	 * Members of the spec (`status`: of the status) that may be set by a create and changed by an update. "*": all
	 * of the object; "": the write is allowed but changes nothing there; NULL: there is no such write.
	 */
	const char *creates, *updates, *status;
	bool deletes;
	size_t max_bytes;                /* of one object as JSON when an agent writes it; 0: no bound of its own */
	bool counts;                     /* creates are bounded for each agent (LIMIT_EVENTS) */
	const struct access_rule *rules; /* ended by whose 0; may be NULL */
};

struct api_access {
	const struct access_grant *grants; /* ended by ACCESS_NOBODY; NULL: none */
	struct access_agents agents;
};

/* Of kinds that are the operator's alone (system:masters, cluster-admin). */
extern const struct api_access access_operator;

/*
 * What an agent makes by itself, Endpoints, Leases and Events, may take so many bytes each. How many there are is
 * bounded by their names, one for each owner, and for Events by LIMIT_EVENTS.
 */
#define ACCESS_SMALL ((size_t)8 << 10)

/* Calls FN for each grant on K, those of the agents too. G is valid until FN returns. */
void access_each_grant(const struct api_kind *k,
                       void (*fn)(const struct api_kind *k, const struct access_grant *g, void *userdata),
                       void *userdata);

/* What agents of WHOSE may do with K; NULL: nothing. */
const struct access_agents *access_agents(const struct api_kind *k, unsigned whose);
bool access_agents_write(const struct access_agents *g);
/* The value of G->own in the objects of agent A, a malloc'ed string; NULL on no memory, which is nobody's. */
char *access_own_value(const struct access_agents *g, const struct access_agent *a);
/* OBJ may be NULL, which is nobody's. Does not look at the namespace. */
bool access_is_own(const struct access_agents *g, const struct access_agent *a, const json_t *obj);

/* The string at a path of members, as "status.host"; NULL: there is none. */
const char *access_string(const json_t *obj, const char *path);

/* The next of the words at *P, its length in *LEN, and *P behind it; NULL: there are no more. *P may be NULL. */
const char *access_next_word(const char **p, size_t *len);
bool access_has_word(const char *words, const char *word);
/* "a, b and c", each between QUOTE and QUOTE. */
void access_print_words(struct buf *out, const char *words, const char *quote);
