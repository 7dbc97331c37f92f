/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where the API server is and who we are there: what kubectl reads from a kubeconfig, for our programs.
 *
 * Certificates, keys and tokens that are files are read again when they change, and so is the kubeconfig itself: who
 * renews them needs to tell nobody. Plug-ins (`exec`, `auth-provider`), proxies and impersonation are refused with a
 * message: a daemon that ignored them would act as somebody else than it was told.
 */

#include <stdbool.h>

#include "base/opt.h"

/* What a program was told by its options. All NULL: $KUBECONFIG, the Pod's service account, KUBE_API_DEFAULT. */
struct kube_access {
	const char *api;        /* URL; nobody in particular talks to it */
	const char *kubeconfig; /* FILE; excludes api */
	const char *context;    /* NULL: the kubeconfig's current-context */
};

#define KUBE_API_DEFAULT "unix:/run/nacre/api.sock"

/* clang-format off */
#define KUBE_ACCESS_OPTIONS(a) \
	{"kubeconfig", OPT_STR, &(a).kubeconfig, "FILE", "where the API server is and who we are there (default: $KUBECONFIG, " \
	 "else the Pod's service account, else --api " KUBE_API_DEFAULT ")", 0, 0, false}, \
	{"context", OPT_STR, &(a).context, "NAME", "context of the kubeconfig (default: its current-context)", 0, 0, false}, \
	{"api", OPT_STR, &(a).api, "URL", "API server that asks for no credentials: unix:/PATH or http://HOST:PORT", 0, 0, false}
/* clang-format on */

/* A PEM text or a token: DATA if it stands in the kubeconfig itself, else the content of FILE once it is read. */
struct kube_secret {
	char *file, *data;
};

struct kube_config {
	char *path, *context;  /* of the kubeconfig; NULL if there is none */
	char *server;          /* "https://…", "http://…" or "unix:/PATH" */
	char *tls_server_name; /* NULL: the host in server */
	bool insecure;         /* the server's certificate is not checked */
	struct kube_secret ca; /* none: the system's */
	struct kube_secret cert, key, token;
	uint64_t stamp; /* tells whether a file changed */
};
void kube_config_clear(struct kube_config *c);
#define _kube_config_ _cleanup_(kube_config_clear)

/*
 * Takes CONTEXT (NULL: the current one) from the kubeconfig TEXT. File names in it are relative to the directory of
 * PATH and are not opened. Fails with a message that names PATH and the entry.
 */
int kube_config_parse(const char *text, size_t len, const char *path, const char *context, struct kube_config *ret,
                      struct error *err) _must_use_;
/* Finds, parses and reads everything. */
int kube_config_load(const struct kube_access *a, struct kube_config *ret, struct error *err) _must_use_;
/* True if a file that C came from is another one now; never for an address alone. */
bool kube_config_changed(const struct kube_config *c);
/* Reads the files that C came from again. */
int kube_config_reload(const struct kube_config *c, struct kube_config *ret, struct error *err) _must_use_;
