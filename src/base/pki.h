/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A certificate authority in a directory, for the TLS and the client certificates of one cloud: `ca.crt` and `ca.key`
 * (mode 0600). Keys are ECDSA P-256; files are PEM. Nothing is kept of what was issued: certificates are told apart by
 * what they say, live for a bounded time and are made anew before it ends. `ca.crl` lists those that were revoked.
 *
 * In a client's certificate the common name is the user and each organisation a group, as Kubernetes reads them.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define PKI_CA_DAYS   3650
#define PKI_DAYS      365
#define PKI_NAME_MAX  320 /* bytes of a user, a group or a host name */
#define PKI_NAMES_MAX 64
#define PKI_FILE_MAX  ((size_t)1 << 20)
#define PKI_TEXT_MAX  512

/* Makes DIR, ca.key and ca.crt if they are not there; an authority that is there stays. */
int pki_init(const char *dir, const char *name, struct error *err) _must_use_;

struct pki_request {
	const char *name;          /* common name: the user, or a server's name */
	const char *const *groups; /* organisations */
	size_t n_groups;
	const char *const *names; /* of a server: DNS names and addresses, at least one */
	size_t n_names;
	bool server;
	int64_t days; /* 0: PKI_DAYS; never longer than the authority's */
};

/*
 * Puts certificates onto the authority's list of revoked ones, DIR/ca.crl (RFC 5280), which is made if it isn't there.
 * FILES are certificates or kubeconfigs, SERIALS hexadecimal numbers of certificates that nobody has any more. With
 * neither the list is signed anew. *RET_N: how many are on it.
 */
int pki_revoke(const char *dir, const char *const *files, size_t n_files, const char *const *serials, size_t n_serials,
               size_t *ret_n, struct error *err) _must_use_;

/* A new key and its certificate, signed by the authority in DIR, appended to the buffers as PEM. */
int pki_issue(const char *dir, const struct pki_request *rq, struct buf *cert, struct buf *key,
              struct error *err) _must_use_;
/* The same into PREFIX.key (mode 0600) and PREFIX.crt; each is replaced whole. */
int pki_issue_files(const char *dir, const struct pki_request *rq, const char *prefix, struct error *err) _must_use_;

struct pki_info {
	bool certificate;           /* there is one, and the next three are known */
	char subject[PKI_TEXT_MAX]; /* "CN=system:admin,O=system:masters", cut if it is long */
	int64_t not_before_s, not_after_s;
	const char *refused; /* why some clients refuse the private key; NULL: they don't, or there is none */
	bool due;            /* the certificate is in the last third of its life, or past it; or the key is refused */
};
/* What PATH says: the first certificate and the private key that stand in it, as PEM or in a kubeconfig. */
int pki_info(const char *path, struct pki_info *ret, struct error *err) _must_use_;
/* True if PATH is not there, can't be read, or is due: time to issue it anew. */
bool pki_due(const char *path);

/* NAME as part of a file's name: what is not a letter, digit, '.' or '-' becomes '-'. */
void pki_file_name(const char *name, char out[static PKI_NAME_MAX + 1]);

struct pki_kubeconfig {
	const char *server;  /* URL */
	const char *cluster; /* NULL: "nacre" */
	const char *ns;      /* of the context; NULL: none */
	const char *user;
};
/* A kubeconfig with the authority of DIR, CERT and KEY in it. */
int pki_kubeconfig(const char *dir, const struct pki_kubeconfig *k, const struct buf *cert, const struct buf *key,
                   struct buf *out, struct error *err) _must_use_;
/* Issues a client's certificate for RQ and writes the kubeconfig that holds it to PATH (mode 0600). K->user: RQ's. */
int pki_kubeconfig_file(const char *dir, const struct pki_request *rq, struct pki_kubeconfig k, const char *path,
                        struct error *err) _must_use_;
