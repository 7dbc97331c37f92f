/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Follows all objects of one kind: a list in pages, then a watch from exactly there, for ever. Reconnects with
 * backoff, resumes the watch where it ended, lists again only when the server says its history is gone (410).
 * Keeps no object; what a user wants is nearly always kube/cache.h, which is fed by this.
 *
 * Objects are parsed straight from the bytes of the answer. One that this program can't parse (another version
 * wrote it) is reported by `bad` and otherwise left as it was.
 */

#include "kube/client.h"

struct kube_reflector;

struct kube_reflector_ops {
	void (*list_begin)(void *userdata);
	/* A listed, added or modified object. Ownership of OBJ passes to the callee. */
	void (*apply)(void *obj, void *userdata);
	/* Deleted, at that resourceVersion. */
	void (*remove)(const struct api_meta *meta, void *userdata);
	/* An object that can't be parsed; META (may be NULL) as far as it can be read. */
	void (*bad)(const struct api_meta *meta, const struct error *err, void *userdata);
	/* The list was complete as of VERSION: what it did not hold is no more. */
	void (*list_end)(const char *version, void *userdata);
	/* Connected: a list or watch was answered. Not connected: ERR says why. Called on changes only. */
	void (*state)(bool connected, const struct error *err, void *userdata);
};

struct kube_reflector_options {
	const char *ns;             /* NULL: all namespaces */
	const char *label_selector; /* NULL: all */
	const char *field_selector; /* "spec.host=h1"; NULL: all */
	uint32_t page;              /* objects a page; 0: 2,000 */
};

/* Starts at once. Strings are copied. */
int kube_reflector_new(struct kube_reflector **ret, struct kube_client *c, const struct api_kind *k,
                       const struct kube_reflector_options *o, const struct kube_reflector_ops *ops, void *userdata,
                       struct error *err) _must_use_;
struct kube_reflector *kube_reflector_free(struct kube_reflector *r);
DEFINE_CLEANUP(kube_reflector, struct kube_reflector *, kube_reflector_free)
