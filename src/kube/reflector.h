/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Follows all objects of one kind: a list in pages, then a watch from exactly that version on. Reconnects with backoff,
 * resumes the watch where it ended, and lists again only when the server says that its history is gone (410). Keeps no
 * object: users nearly always want kube/cache.h, which this feeds.
 *
 * Objects are parsed straight from the bytes of the answer. An object that this program can't parse (another version
 * wrote it) is passed to `bad`; nothing else is called for it.
 */

#include "kube/client.h"

struct kube_reflector;

struct kube_reflector_ops {
	void (*list_begin)(void *userdata);
	/* An object was listed, added or modified. The callee takes ownership of OBJ. */
	void (*apply)(void *obj, void *userdata);
	/* The object was deleted, at the resourceVersion of META. */
	void (*remove)(const struct api_meta *meta, void *userdata);
	/*
	 * An object can't be parsed. PART holds the fields that could be read, perhaps without a name. The callee takes
	 * ownership of it.
	 */
	void (*bad)(void *part, const struct error *err, void *userdata);
	/* The list is complete as of VERSION: objects that it did not hold no longer exist. */
	void (*list_end)(const char *version, void *userdata);
	/* Connected: a list or watch was answered. Not connected: ERR says why. Called only on changes. */
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
