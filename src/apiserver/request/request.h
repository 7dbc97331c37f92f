/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One request and its answer, free of HTTP's wire: apiserver/http/http.c fills it in from a connection, tests and
 * fuzzers by hand. The request owns all it points to; request_free() releases it.
 *
 * Life: request_new() parses the target; the body is added; server_handle() answers it, at once or (writes) later by
 * calling done(). The answer is then in `reply`.
 */

#include <jansson.h>
#include <stdbool.h>

#include "api/api.h"
#include "apiserver/json/selector.h"
#include "apiserver/json/table.h"
#include "apiserver/request/queue.h"
#include "apiserver/request/reviews.h"
#include "apiserver/request/user.h"
#include "apiserver/store/store.h"
#include "base/buf.h"

#define REQUEST_BODY_MAX   ((size_t)3 << 20) /* longer bodies: 413 */
#define OBJECT_MAX         ((size_t)3 << 19) /* stored size of an object, 1.5 MiB: 413 */
#define REQUEST_PATH_MAX   ((size_t)2048)
#define REQUEST_PARAMS_MAX 32

enum verb {
	VERB_NONE, /* discovery, health and the like: see path */
	VERB_GET,
	VERB_LIST,
	VERB_WATCH,
	VERB_CREATE,
	VERB_UPDATE,
	VERB_PATCH,
	VERB_DELETE,
	VERB_DELETE_COLLECTION,
	VERBS_COUNT,
};
const char *verb_name(enum verb v); /* as RBAC calls it */

/* PARTIAL: metadata alone, of one object or of a list. OPENAPI_V2: that document as protobuf. */
enum media { MEDIA_JSON, MEDIA_TABLE, MEDIA_DISCOVERY, MEDIA_PARTIAL, MEDIA_PARTIAL_LIST, MEDIA_OPENAPI_V2 };

enum route_fault { ROUTE_FINE, ROUTE_NOT_FOUND, ROUTE_NO_SUBRESOURCE, ROUTE_NO_METHOD, ROUTE_NO_NAME };

/*
 * What method and target say: /apis/GROUP/VERSION/[namespaces/NS/]PLURAL[/NAME[/SUBRESOURCE]], as apimachinery's
 * RequestInfo reads it. Authorization and handlers both go by this and parse nothing themselves. Strings are "" if
 * absent.
 */
struct route {
	bool is_resource; /* else the path itself is what is asked for, and all strings are empty */
	const char *group, *version, *plural, *ns, *name, *subresource;
	enum verb asked;        /* whether or not it is served; VERB_NONE: a method that Kubernetes has no verb for */
	enum route_fault fault; /* why it isn't served; told only to who is allowed what is asked */
	enum verb verb;         /* what is served */
	unsigned kind_index;    /* into api_kinds; for verbs other than VERB_NONE */
	const struct api_kind *kind; /* NULL: there is none */
	bool status, scale;          /* the subresources */
	bool crds;                   /* of the CustomResourceDefinitions, with VERB_NONE and KIND NULL */
	const struct review *review; /* a question, with VERB_CREATE; KIND is NULL, or what it is a subresource of */
};

/* The built-in kinds are there as these, too; see schema/discovery.h. */
#define CRD_GROUP   "apiextensions.k8s.io"
#define CRD_VERSION "v1"
#define CRD_PLURAL  "customresourcedefinitions"

struct param {
	const char *key, *value;
};

/* The first member of what another layer keeps in a request or its reply: how that is freed. */
struct held {
	void (*free)(struct held *h);
};
void held_free(struct held *h); /* NULL is fine */

struct watch;

struct reply {
	unsigned code; /* HTTP status; 0 while there is no answer */
	const char *content_type;
	struct buf body;
	/* A list: `body` holds what comes before the items, `items` the items (references), `tail` what follows. */
	struct blob **items;
	size_t n_items;
	const char *tail;
	struct item_style style;
	struct watch *watch; /* begins with a struct held; a stream, after `body`, which is empty */
	struct buf warnings; /* Warning header values, each ended by "\n" */
	char etag[40];
	unsigned retry_after_s;
};

struct request {
	struct write write; /* first */
	struct user *user;  /* a reference; NULL until someone is authenticated */
	struct user *as;    /* whom the user asks to be taken for; NULL: nobody else */
	struct user *by; /* who was allowed that: the user that was authenticated, and USER is whom it is taken for */
	char *method;
	char *path; /* decoded */
	char *query;
	struct param *params; /* pointers into `query` */
	size_t n_params;      /* REQUEST_PARAMS_MAX at most */
	struct route route;
	char *segments; /* the path cut up, for route */
	/* Of list, watch and deletecollection; NULL: all. SELECTOR_FAULT, unless it is NULL: why it can't be read. */
	struct selector *selector;
	char *selector_fault;
	enum media accept;
	bool websocket;     /* it asks for an upgrade of the connection, which isn't served */
	char *content_type; /* lower case, without parameters; NULL if absent */
	char *if_none_match;
	char *user_agent;
	char audit_id[65]; /* in the audit log and in the answer */
	struct buf body;
	json_t *json;                  /* the body once parsed */
	struct api_errors *duplicates; /* its keys that are there twice; NULL: none */
	struct reply reply;
	uint64_t start_ns;
	bool answered;
	struct held *rest; /* of what takes several turns of the loop: what is left to do; NULL: nothing */
	/* Called when a deferred answer is there. */
	void (*done)(struct request *r);
	void *userdata;
};

/*
 * TARGET is the raw one of the request line. Never fails but for memory (NULL): an odd target gives a request
 * whose reply is already set.
 */
struct request *request_new(const char *method, const char *target);
struct request *request_free(struct request *r);
DEFINE_CLEANUP(request, struct request *, request_free)

/* Values of headers; NULL is fine. 0, or -EINVAL with the reply set (406). */
int request_set_accept(struct request *r, const char *value);
int request_set_content_type(struct request *r, const char *value);

/* The first one, as kube-apiserver takes it; NULL if absent. */
const char *request_param(const struct request *r, const char *key);
/* False if absent, "false" or "0" (Convert_Slice_string_To_bool() of k8s.io/apimachinery, pkg/runtime/conversion.go).
 */
bool request_flag(const struct request *r, const char *key);
/* Nothing is to be changed: a rehearsal. */
bool request_dry_run(const struct request *r);

/* Sets r->route and r->selector, once and for all; -ENOMEM with the reply set. */
int route_parse(struct request *r) _must_use_;
/* 0, or -EINVAL with the reply set (404, 405, 400): nothing of that sort is served. */
int route_check(struct request *r) _must_use_;
/* The same for a selector that can't be read (400). */
int request_check_selector(struct request *r) _must_use_;
