/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A request and its answer, independent of HTTP. apiserver/http/http.c fills it in from a connection, tests and fuzzers
 * by hand. The request owns all it points to; request_free() releases it.
 *
 * Order: request_new() parses the target; the caller adds headers and body; server_handle() answers at once or, for
 * writes, later and then calls done(). The answer is in `reply`.
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

#define REQUEST_BODY_MAX   ((size_t)3 << 20) /* in bytes; longer bodies get 413 */
#define OBJECT_MAX         ((size_t)3 << 19) /* in bytes, of an object as it is stored, 1.5 MiB; larger objects get 413 */
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
const char *verb_name(enum verb v); /* in RBAC's words */

/* PARTIAL: only metadata, of one object or of a list. OPENAPI_V2: that document as protobuf. */
enum media { MEDIA_JSON, MEDIA_TABLE, MEDIA_DISCOVERY, MEDIA_PARTIAL, MEDIA_PARTIAL_LIST, MEDIA_OPENAPI_V2 };

enum route_fault { ROUTE_FINE, ROUTE_NOT_FOUND, ROUTE_NO_SUBRESOURCE, ROUTE_NO_METHOD, ROUTE_NO_NAME };

/*
 * Method and target as apimachinery's RequestInfo reads them:
 * /apis/GROUP/VERSION/[namespaces/NS/]PLURAL[/NAME[/SUBRESOURCE]]. Authorization and handlers both use this and parse
 * nothing themselves. Absent strings are "".
 */
struct route {
	bool is_resource; /* false: the request is for the path itself, and all strings are "" */
	const char *group, *version, *plural, *ns, *name, *subresource;
	enum verb asked; /* the verb of the request, served or not; VERB_NONE: Kubernetes has no verb for the method */
	enum route_fault fault;      /* why it isn't served; only reported to users who may do what they asked */
	enum verb verb;              /* the verb that is served */
	unsigned kind_index;         /* index into api_kinds; set if `verb` is not VERB_NONE */
	const struct api_kind *kind; /* NULL: no such kind */
	bool status, scale;          /* the subresources of that name */
	bool crds;                   /* CustomResourceDefinitions; `verb` is then VERB_NONE and `kind` NULL */
	const struct review
		*review; /* a review, with VERB_CREATE; `kind` is then NULL, or the kind whose subresource it is */
};

/* The built-in kinds are also listed as CustomResourceDefinitions; see schema/discovery.h. */
#define CRD_GROUP   "apiextensions.k8s.io"
#define CRD_VERSION "v1"
#define CRD_PLURAL  "customresourcedefinitions"

struct param {
	const char *key, *value;
};

/* Something that another layer keeps in a request or its reply begins with this struct, which says how to free it. */
struct held {
	void (*free)(struct held *h);
};
void held_free(struct held *h); /* H may be NULL */

struct watch;

struct reply {
	unsigned code; /* HTTP status; 0: there is no answer yet */
	const char *content_type;
	struct buf body;
	/*
	 * For a list: `body` is the part before the items, `items` has a reference to each item, `tail` is the part
	 * after them.
	 */
	struct blob **items;
	size_t n_items;
	const char *tail;
	struct item_style style;
	struct watch *watch; /* begins with a struct held; `body` is empty, and the watch sends its stream */
	struct buf warnings; /* values of Warning headers, each ended by "\n" */
	char etag[40];
	unsigned retry_after_s;
};

struct request {
	struct write write; /* must be the first member */
	struct user *user;  /* a reference; NULL until someone is authenticated */
	struct user *as;    /* the user that the client wants to impersonate; NULL: none */
	struct user *by;    /* the impersonating user, who was authenticated; `user` is then the impersonated one */
	char *method;
	char *path; /* decoded */
	char *query;
	struct param *params; /* pointers into `query` */
	size_t n_params;      /* at most REQUEST_PARAMS_MAX */
	struct route route;
	char *segments; /* the split path, which `route` points into */
	/*
	 * Of list, watch and deletecollection; NULL: all objects. SELECTOR_FAULT: why it can't be parsed; NULL: no
	 * fault.
	 */
	struct selector *selector;
	char *selector_fault;
	enum media accept;
	bool websocket;     /* the client asks for an upgrade of the connection, which isn't supported */
	char *content_type; /* lower case, without parameters; NULL if absent */
	char *if_none_match;
	char *user_agent;
	char audit_id[65]; /* written to the audit log and to the answer */
	struct buf body;
	json_t *json;                  /* the parsed body */
	struct api_errors *duplicates; /* repeated keys of the body; NULL: none */
	struct reply reply;
	uint64_t start_ns;
	bool answered;
	struct held *rest; /* the remaining work of a request that takes several turns of the loop; NULL: none */
	/* Called when a deferred answer is complete. */
	void (*done)(struct request *r);
	void *userdata;
};

/*
 * TARGET is the raw target of the request line. Returns NULL only if memory runs out. If the target is malformed, the
 * reply is already set.
 */
struct request *request_new(const char *method, const char *target);
struct request *request_free(struct request *r);
DEFINE_CLEANUP(request, struct request *, request_free)

/* Set values of headers; NULL: the header is absent. 0, or -EINVAL with the reply set (406). */
int request_set_accept(struct request *r, const char *value);
int request_set_content_type(struct request *r, const char *value);

/* The first value of a parameter, like kube-apiserver; NULL: absent. */
const char *request_param(const struct request *r, const char *key);
/*
 * True unless the parameter is absent, "false" or "0" (Convert_Slice_string_To_bool() of k8s.io/apimachinery,
 * pkg/runtime/conversion.go).
 */
bool request_flag(const struct request *r, const char *key);
/* True if the request must not change anything. */
bool request_dry_run(const struct request *r);

/* Sets r->route and r->selector; called once. 0, or -ENOMEM with the reply set. */
int route_parse(struct request *r) _must_use_;
/* 0, or -EINVAL with the reply set (404, 405, 400): the route isn't served. */
int route_check(struct request *r) _must_use_;
/* 0, or -EINVAL with the reply set (400): the selector can't be parsed. */
int request_check_selector(struct request *r) _must_use_;
