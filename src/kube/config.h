/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where the API server is, and the credentials for it: the part of a kubeconfig that our programs use.
 *
 * Certificates, keys, tokens and the kubeconfig itself are read again when their files change: whoever renews them need
 * not restart or signal the program. Plug-ins (`exec`, `auth-provider`), proxies and impersonation are refused with a
 * message: a daemon that ignored them would act under another identity than the kubeconfig says.
 */

#include <stdbool.h>

#include "base/opt.h"

/* The options of a program. If all are NULL: $KUBECONFIG, else the Pod's service account, else KUBE_API_DEFAULT. */
struct kube_access {
	const char *api;        /* URL of a server that needs no credentials */
	const char *kubeconfig; /* FILE; excludes api */
	const char *context;    /* NULL: the kubeconfig's current-context */
};

#define KUBE_API_DEFAULT "unix:/run/nacre/api.sock"

/* clang-format off */
#define KUBE_ACCESS_OPTIONS(a) \
	{"kubeconfig", OPT_STR, &(a).kubeconfig, "FILE", "address of the API server and credentials (default: $KUBECONFIG, " \
	 "else the Pod's service account, else --api " KUBE_API_DEFAULT ")", 0, 0, false}, \
	{"context", OPT_STR, &(a).context, "NAME", "context of the kubeconfig (default: its current-context)", 0, 0, false}, \
	{"api", OPT_STR, &(a).api, "URL", "API server that needs no credentials: unix:/PATH or http://HOST:PORT", 0, 0, false}
/* clang-format on */

/* A PEM text or a token: DATA if it is in the kubeconfig itself, else the content of FILE once that has been read. */
struct kube_secret {
	char *file, *data;
};

struct kube_config {
	char *path, *context;  /* of the kubeconfig; NULL without one */
	char *server;          /* "https://…", "http://…" or "unix:/PATH" */
	char *tls_server_name; /* NULL: the host in server */
	bool insecure;         /* the server's certificate is not checked */
	struct kube_secret ca; /* the server's authority; empty: the system's authorities */
	struct kube_secret cert, key, token;
	uint64_t stamp; /* changes when one of the files changes */
};
void kube_config_clear(struct kube_config *c);
#define _kube_config_ _cleanup_(kube_config_clear)

/*
 * Takes CONTEXT (NULL: the current one) from the kubeconfig TEXT. File names in it are relative to the directory of
 * PATH; the files are not opened. On failure the message names PATH and the entry.
 */
int kube_config_parse(const char *text, size_t len, const char *path, const char *context, struct kube_config *ret,
                      struct error *err) _must_use_;
/* Finds the kubeconfig, parses it, and reads the files that it names. */
int kube_config_load(const struct kube_access *a, struct kube_config *ret, struct error *err) _must_use_;
/* True if a file from which C was read has changed; always false if C is only an address. */
bool kube_config_changed(const struct kube_config *c);
/* Reads the files of C again into RET. On failure RET is unchanged. */
int kube_config_reload(const struct kube_config *c, struct kube_config *ret, struct error *err) _must_use_;
