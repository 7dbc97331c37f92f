/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * ConfigMap, Secret and ServiceAccount of v1. Semantics and messages: Kubernetes API reference;
 * pkg/apis/core/validation. The server handles base64 and stringData.
 */

#include "api/meta.h"

/* The limit in bytes for all values of an object together. */
#define DATA_MAX ((size_t)1 << 20)

#define SECRET_TYPE_OPAQUE "Opaque"
#define SECRET_TYPE_TOKEN  "kubernetes.io/service-account-token"

#define DATA_FIELDS(F, T)                                                                                              \
	F(T, map, data, "data", API_MAP_DATA, _, 0, 4096, NULL, "Keys and values; a Secret has the values in base64.") \
	F(T, flag, immutable, "immutable", 0, _, 0, 0, NULL, "True: neither this field nor the data can be changed.")
#define CONFIGMAP(F, T)   \
	API_META(F, T)    \
	DATA_FIELDS(F, T) \
	F(T, map, binary, "binaryData", API_MAP_DATA, _, 0, 4096, NULL, "Keys and values in base64.")
API_DECLARE(configmap, CONFIGMAP)
#define SECRET(F, T)                                                                               \
	API_META(F, T)                                                                             \
	DATA_FIELDS(F, T)                                                                          \
	F(T, str, type, "type", 0, any, 0, 253, "\"Opaque\"", "Type of the Secret; can't change.") \
	F(T, map, text, "stringData", API_MAP_DATA, _, 0, 4096, NULL,                              \
	  "Values as plain text; stored in data and never shown.")
API_DECLARE(secret, SECRET)

#define ACCOUNT_REF(F, T) F(T, str, name, "name", 0, any, 0, 253, NULL, "Name of a Secret of the same namespace.")
API_DECLARE(account_ref, ACCOUNT_REF)
#define SERVICEACCOUNT(F, T)                                                                 \
	API_META(F, T)                                                                       \
	F(T, list, secrets, "secrets", API_KEY_NAME | API_ATOMIC, account_ref, 0, 256, NULL, \
	  "Secrets that belong to it.")                                                      \
	F(T, flag, automount, "automountServiceAccountToken", 0, _, 0, 0, NULL, "Stored for clients; has no effect.")
API_DECLARE(serviceaccount, SERVICEACCOUNT)

extern const struct api_kind api_kind_configmap, api_kind_secret, api_kind_serviceaccount;
