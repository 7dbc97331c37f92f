/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A client of the Kubernetes REST API, for nacre-apiserver and kube-apiserver alike: libcurl's multi
 * interface on the daemon's sd-event loop.
 *
 * Requests are asynchronous. The answer comes by callback, always from the loop, never from inside the
 * function that began the request. Where the caller gives a SLOT, *SLOT holds the request until just before
 * the callback; kube_request_cancel(SLOT) ends it and the callback is not called. Callbacks may begin and
 * cancel requests, but must not free the client.
 *
 * The client owns its connections and every request; kube_client_free() cancels what is left. Connections are
 * kept and used again; a server that closed one in the meantime costs a transparent retry.
 */

#include <systemd/sd-event.h>

#include "api/api.h"
#include "base/loop.h"
#include "kube/config.h"

struct kube_client;
struct kube_request;

/*
 * Finds server and credentials (kube/config.h). AGENT names the program to the server ("nacre-node") and must outlive
 * the client. Does not connect yet. Credentials that change on disk are used from the next request on; while they
 * can't be read the old ones are.
 */
int kube_client_open(struct kube_client **ret, sd_event *loop, const struct kube_access *access, const char *agent,
                     struct error *err) _must_use_;
/* The same with nothing but an address: "http://HOST:PORT", "https://HOST:PORT" or "unix:/PATH". */
int kube_client_new(struct kube_client **ret, sd_event *loop, const char *endpoint, const char *agent,
                    struct error *err) _must_use_;
struct kube_client *kube_client_free(struct kube_client *c);
DEFINE_CLEANUP(kube_client, struct kube_client *, kube_client_free)

/* Monotonic time (ns) of the last whole answer below 500 to any request; 0 if there was none yet. */
uint64_t kube_client_last_contact(const struct kube_client *c);
sd_event *kube_client_loop(const struct kube_client *c);
/*
 * How often a kubeconfig that changed has named another server (or another authority for it). What is known of the last
 * one, versions above all, means nothing to this one. Requests that were under way to the last one end (-ECONNRESET).
 */
unsigned kube_client_moves(struct kube_client *c);
/* Where it goes: "https://10.0.0.1:6443", "unix:/run/nacre/api.sock". */
const char *kube_client_server(const struct kube_client *c);

/*
 * What came back. Valid only during the callback (kube_perform(): until kube_response_clear()).
 *
 * error is 0 for 2xx, else a negative errno, and err holds a sentence for people:
 *   -ENOENT 404, -EEXIST 409 AlreadyExists, -ESTALE 409 of any other reason (Conflict), -EKEYEXPIRED 410,
 *   -EINVAL 400 and 422, -EACCES 401 and 403, -EMSGSIZE 413 or an answer over the limit, -EBUSY 429,
 *   -EIO 5xx; http is 0 if no answer came: -ECONNREFUSED, -ETIMEDOUT, -ECONNRESET, -EPROTO (TLS), ….
 */
struct kube_response {
	int error;
	int http;
	const char *body;
	size_t len;
	uint32_t retry_after_s; /* the server asks not to be asked before (429, 503); 0: it doesn't say */
	char reason[64];        /* of the Status object, "" without one */
	struct error err;
	struct buf data; /* owns body */
};

/* True if the failure may go away by itself: no answer, 429, 5xx, 409 Conflict. */
bool kube_response_retriable(const struct kube_response *r);

typedef void (*kube_done_fn)(const struct kube_response *r, void *userdata);

/* Where the answer goes. done may be NULL (nobody cares), slot too. */
struct kube_call {
	kube_done_fn done;
	void *userdata;
	struct kube_request **slot;
};
#define KUBE_CALL(fn, data, slotp) (&(struct kube_call){.done = (fn), .userdata = (data), .slot = (slotp)})

enum kube_patch {
	KUBE_PATCH_MERGE, /* RFC 7396 */
	KUBE_PATCH_JSON,  /* RFC 6902 */
};

/*
 * NS is NULL for cluster-scoped kinds. These functions, kube_patch_status() too, return 0 if a request has begun, whose
 * answer comes to CALL. A negative errno (-ENOMEM) says that no request has begun, and CALL is not called.
 */
int kube_get(struct kube_client *c, const struct api_kind *k, const char *ns, const char *name,
             const struct kube_call *call, struct error *err) _must_use_;
/* OBJ is of kind K; namespace and name are taken from its metadata. */
int kube_create(struct kube_client *c, const struct api_kind *k, const void *obj, const struct kube_call *call,
                struct error *err) _must_use_;
int kube_update(struct kube_client *c, const struct api_kind *k, const void *obj, const struct kube_call *call,
                struct error *err) _must_use_;
/* SUB: NULL, or a subresource such as "status". */
int kube_patch(struct kube_client *c, const struct api_kind *k, const char *ns, const char *name, const char *sub,
               enum kube_patch type, const char *json, size_t len, const struct kube_call *call,
               struct error *err) _must_use_;
/* UID (may be NULL): only if the object is that very one, else 409. */
int kube_delete(struct kube_client *c, const struct api_kind *k, const char *ns, const char *name, const char *uid,
                const struct kube_call *call, struct error *err) _must_use_;
/* Only if it is still in the very state that M is of, else 409. */
struct api_meta;
int kube_delete_exact(struct kube_client *c, const struct api_kind *k, const struct api_meta *m,
                      const struct kube_call *call, struct error *err) _must_use_;

/*
 * Patches /status with the members of the status that differ between OLD and NEW (two objects of kind K with the
 * same metadata); members of others' are not touched. OLD's resourceVersion is a precondition: 409 (-ESTALE) if the
 * object changed meanwhile. If nothing differs there is nothing to write: the function returns -EALREADY, begins no
 * request and does not call CALL. A caller who has not thought of that case takes it for a failure and tries again; he
 * never waits for an answer that does not come.
 */
int kube_patch_status(struct kube_client *c, const struct api_kind *k, const void *old, const void *new,
                      const struct kube_call *call, struct error *err) _must_use_;

/* Parses the body as an object of kind K (caller frees with api_free()). */
int kube_response_parse(const struct kube_response *r, const struct api_kind *k, void **ret,
                        struct error *err) _must_use_;

void kube_request_cancel(struct kube_request **slot);

/* ---- the layer below: any request ---- */

struct kube_spec {
	const char *method; /* "GET", … */
	const char *path;   /* with its query, see kube_path() */
	const char *body;   /* copied; NULL: none */
	size_t len;
	const char *content_type; /* NULL: application/json */
	uint32_t timeout_ms;      /* 0: 30 s */
	size_t max;               /* bytes of answer held at once; 0: 64 MiB */
	/*
	 * For streams: called when a 2xx answer begins (len 0), and with the bytes that came and were not consumed yet;
	 * returns how many it consumed, or a negative errno, which ends the request with that error. Not
	 * NUL-terminated. NULL: the body is collected.
	 */
	ssize_t (*data)(const char *bytes, size_t len, void *userdata);
};

int kube_request(struct kube_client *c, const struct kube_spec *spec, const struct kube_call *call,
                 struct error *err) _must_use_;
/* Blocks until the answer is there; for command-line tools, and for a daemon's last words. Returns ret->error. */
int kube_perform(struct kube_client *c, const struct kube_spec *spec, struct kube_response *ret);
void kube_response_clear(struct kube_response *r);

/* "/apis/nacre.dev/v1alpha1/namespaces/NS/instances/NAME/SUB": NS, NAME, SUB may be NULL. Adds to OUT. */
void kube_path(struct buf *out, const struct api_kind *k, const char *ns, const char *name, const char *sub);
/* Adds "?" or "&", and KEY=VALUE with VALUE percent-encoded. */
void kube_query(struct buf *out, const char *key, const char *value);
