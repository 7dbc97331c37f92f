/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Public keys of OpenSSH: a line of authorized_keys (sshd(8)) without options, "TYPE BASE64 [COMMENT]".
 * In ASCII: a limit of a string is in bytes here and in characters on a kube-apiserver, which must mean the same. */

#include "api/format.h"

/* The longest key in bytes, with its comment. An RSA key of 16,384 bits has 2,800. */
#define SSHKEY_MAX 4096

/* Checks the N bytes at S. -EINVAL: ERR says why and shows nothing of them, because they may be a private key. */
int sshkey_check(const char *s, size_t n, struct error *err) _must_use_;

/* For lists of strings. */
extern const struct api_format api_format_ssh_key;

#define SSHKEY_PRIVATE                                                                                               \
	"is a private key, which must stay where it was made: give the public key, the line in the file whose name " \
	"ends in .pub, and replace the key, which others may have seen now"
#define SSHKEY_FORM                                                                                                 \
	"must be a public key of OpenSSH, TYPE BASE64 [COMMENT], in one line of ASCII without options and control " \
	"characters"

/* For a kube-apiserver, of the list: in a message about an element it would show the element. */
#define SSHKEY_PRIVATE_CEL  "self.all(k, !k.contains('PRIVATE KEY') && !k.startsWith('PuTTY-User-Key-File'))"
#define SSHKEY_PRIVATE_RULE "an element " SSHKEY_PRIVATE
#define SSHKEY_FORM_CEL                                                                                            \
	"self.all(k, k.matches('^[a-z][a-z0-9@.-]* AAAA([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?" \
	"( [ -~]*)?$'))"
#define SSHKEY_FORM_RULE "an element " SSHKEY_FORM
