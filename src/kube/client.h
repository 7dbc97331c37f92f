/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A client of the Kubernetes REST API, for nacre-apiserver and kube-apiserver alike: libcurl's multi interface on the
 * daemon's sd-event loop.
 *
 * Requests are asynchronous. The answer comes by callback, always from the loop, never from inside the function that
 * began the request. If the caller gives a SLOT, *SLOT holds the request until just before the callback;
 * kube_request_cancel(SLOT) ends the request, and the callback is not called. Callbacks may begin and cancel requests,
 * but must not free the client.
 *
 * The client owns its connections and every request; kube_client_free() cancels what is left. Connections are kept and
 * used again. If a server has closed a kept connection, the request is retried on a new one, which the caller does not
 * notice.
 */

#include <systemd/sd-event.h>

#include "api/api.h"
#include "base/loop.h"
#include "kube/config.h"

struct kube_client;
struct kube_request;

/*
 * Finds server and credentials (kube/config.h) but does not connect yet. AGENT names the program to the server
 * ("nacre-node") and must outlive the client. Credentials that change on disk are used from the next request on; while
 * the new ones can't be read, the old ones stay in use.
 */
int kube_client_open(struct kube_client **ret, sd_event *loop, const struct kube_access *access, const char *agent,
                     struct error *err) _must_use_;
/* Does the same with only an address: "http://HOST:PORT", "https://HOST:PORT" or "unix:/PATH". */
int kube_client_new(struct kube_client **ret, sd_event *loop, const char *endpoint, const char *agent,
                    struct error *err) _must_use_;
struct kube_client *kube_client_free(struct kube_client *c);
DEFINE_CLEANUP(kube_client, struct kube_client *, kube_client_free)

/* Monotonic time (ns) of the last complete answer with a status below 500 to any request; 0 before the first one. */
uint64_t kube_client_last_contact(const struct kube_client *c);
sd_event *kube_client_loop(const struct kube_client *c);
/*
 * How often a changed kubeconfig has named another server, or another authority for the same server. State from the
 * former server, above all resourceVersions, means nothing to the new one. Requests under way to the former server end
 * with -ECONNRESET.
 */
unsigned kube_client_moves(struct kube_client *c);
/* The address of the server: "https://10.0.0.1:6443", "unix:/run/nacre/api.sock". */
const char *kube_client_server(const struct kube_client *c);

/*
 * The answer to a request. Valid only during the callback (kube_perform(): until kube_response_clear()).
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
	uint32_t retry_after_s; /* how long the server asks to wait before the next request (429, 503); 0: it does not
	                           say */
	char reason[64];        /* reason of the Status object; "" without one */
	struct error err;
	struct buf data; /* owns body */
};

/* True if the failure may go away by itself: no answer, 429, 5xx, 409 Conflict. */
bool kube_response_retriable(const struct kube_response *r);

typedef void (*kube_done_fn)(const struct kube_response *r, void *userdata);

/* Who gets the answer. done may be NULL if the answer is not needed; slot may be NULL. */
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
 * NS is NULL for cluster-scoped kinds. These functions, including kube_patch_status(), return 0 if a request has begun;
 * its answer goes to CALL. A negative errno (-ENOMEM) means that no request has begun, and CALL is not called.
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
/* UID (may be NULL) is a precondition: 409 if the object has another uid. */
int kube_delete(struct kube_client *c, const struct api_kind *k, const char *ns, const char *name, const char *uid,
                const struct kube_call *call, struct error *err) _must_use_;
/* Deletes the object only if it still has the uid and resourceVersion of M, else 409. */
struct api_meta;
int kube_delete_exact(struct kube_client *c, const struct api_kind *k, const struct api_meta *m,
                      const struct kube_call *call, struct error *err) _must_use_;

/*
 * Patches /status with the members of the status that differ between OLD and NEW (two objects of kind K with the same
 * metadata); it does not touch members that only others write. OLD's resourceVersion is a precondition: 409 (-ESTALE)
 * if the object has changed since. If nothing differs, the function returns -EALREADY, begins no request and does not
 * call CALL. A caller that does not handle -EALREADY treats it as a failure and tries again, but never waits for an
 * answer that does not come.
 */
int kube_patch_status(struct kube_client *c, const struct api_kind *k, const void *old, const void *new,
                      const struct kube_call *call, struct error *err) _must_use_;

/* Parses the body as an object of kind K (caller frees with api_free()). */
int kube_response_parse(const struct kube_response *r, const struct api_kind *k, void **ret,
                        struct error *err) _must_use_;

void kube_request_cancel(struct kube_request **slot);

/* ---- the lower layer: any request ---- */

struct kube_spec {
	const char *method; /* "GET", … */
	const char *path;   /* with its query, see kube_path() */
	const char *body;   /* copied; NULL: none */
	size_t len;
	const char *content_type; /* NULL: application/json */
	uint32_t timeout_ms;      /* 0: 30 s */
	size_t max;               /* bytes of answer held at once; 0: 64 MiB */
	/*
	 * For streams: called when a 2xx answer begins (len 0), and then with the bytes that came and were not consumed
	 * yet. Returns how many bytes it consumed, or a negative errno, which ends the request with that error. The
	 * bytes do not end in NUL. NULL: the whole body is collected.
	 */
	ssize_t (*data)(const char *bytes, size_t len, void *userdata);
};

int kube_request(struct kube_client *c, const struct kube_spec *spec, const struct kube_call *call,
                 struct error *err) _must_use_;
/* Blocks until the answer has come. For command-line tools, and for the last requests of a daemon that ends. Returns
 * ret->error. */
int kube_perform(struct kube_client *c, const struct kube_spec *spec, struct kube_response *ret);
void kube_response_clear(struct kube_response *r);

/* Appends "/apis/nacre.dev/v1alpha1/namespaces/NS/instances/NAME/SUB" to OUT. NS, NAME and SUB may be NULL. */
void kube_path(struct buf *out, const struct api_kind *k, const char *ns, const char *name, const char *sub);
/* Appends "?" or "&", and KEY=VALUE with VALUE percent-encoded. */
void kube_query(struct buf *out, const char *key, const char *value);
