/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A certificate authority in a directory, for the TLS and the client certificates of one cloud: `ca.crt` and `ca.key`
 * (mode 0600). Keys are ECDSA P-256; files are PEM. The authority keeps no record of the certificates that it issued: a
 * certificate is identified by its content, lives for a bounded time and is issued anew before its end. `ca.crl` lists
 * the revoked certificates.
 *
 * In a client's certificate the common name is the user and each organisation is a group, as in Kubernetes.
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

/* Creates DIR, ca.key and ca.crt if they do not exist. An existing authority is kept. */
int pki_init(const char *dir, const char *name, struct error *err) _must_use_;

struct pki_request {
	const char *name;          /* common name: the user, or a server's name */
	const char *const *groups; /* organisations */
	size_t n_groups;
	const char *const *names; /* of a server: DNS names and addresses, at least one */
	size_t n_names;
	bool server;
	int64_t days; /* 0: PKI_DAYS; at most until the authority's end */
};

/*
 * Adds certificates to the authority's list of revoked certificates, DIR/ca.crl (RFC 5280); creates the list if it does
 * not exist. FILES are certificates or kubeconfigs, SERIALS are hexadecimal serial numbers, for certificates of which
 * no copy is left. Without FILES and SERIALS the list is only signed anew. *RET_N is the number of certificates on the
 * list.
 */
int pki_revoke(const char *dir, const char *const *files, size_t n_files, const char *const *serials, size_t n_serials,
               size_t *ret_n, struct error *err) _must_use_;

/* Makes a new key and its certificate, signed by the authority in DIR, and appends both to the buffers as PEM. */
int pki_issue(const char *dir, const struct pki_request *rq, struct buf *cert, struct buf *key,
              struct error *err) _must_use_;
/* Does the same into the files PREFIX.key (mode 0600) and PREFIX.crt; each file is replaced as a whole. */
int pki_issue_files(const char *dir, const struct pki_request *rq, const char *prefix, struct error *err) _must_use_;

struct pki_info {
	bool certificate;           /* a certificate was found, and the next three members are set */
	char subject[PKI_TEXT_MAX]; /* "CN=system:admin,O=system:masters", cut if it is longer */
	int64_t not_before_s, not_after_s;
	const char *refused; /* why some clients refuse the private key; NULL: they accept it, or there is no key */
	bool due;            /* the certificate is past two thirds of its life, or the key is refused */
};
/* Describes the first certificate and the private key in the file PATH, which is PEM or a kubeconfig. */
int pki_info(const char *path, struct pki_info *ret, struct error *err) _must_use_;
/* True if PATH does not exist, can't be read, or is due: it should be issued anew. */
bool pki_due(const char *path);

/* NAME as part of a file name: characters other than letters, digits, '.' and '-' become '-'. */
void pki_file_name(const char *name, char out[static PKI_NAME_MAX + 1]);

struct pki_kubeconfig {
	const char *server;  /* URL */
	const char *cluster; /* NULL: "nacre" */
	const char *ns;      /* of the context; NULL: none */
	const char *user;
};
/* Appends to OUT a kubeconfig that holds the certificate of the authority in DIR, CERT and KEY. */
int pki_kubeconfig(const char *dir, const struct pki_kubeconfig *k, const struct buf *cert, const struct buf *key,
                   struct buf *out, struct error *err) _must_use_;
/* Issues a client certificate for RQ and writes a kubeconfig with it to PATH (mode 0600). K->user is set to RQ's
 * name. */
int pki_kubeconfig_file(const char *dir, const struct pki_request *rq, struct pki_kubeconfig k, const char *path,
                        struct error *err) _must_use_;
