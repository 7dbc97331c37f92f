/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What tenants keep for themselves and for programs: ConfigMap, Secret, ServiceAccount of v1. Meanings and messages:
 * Kubernetes API reference; pkg/apis/core/validation. Base64 and stringData are the server's business.
 */

#include "api/meta.h"

/* Of the values of one object together. */
#define DATA_MAX ((size_t)1 << 20)

#define SECRET_TYPE_OPAQUE "Opaque"
#define SECRET_TYPE_TOKEN  "kubernetes.io/service-account-token"

#define DATA_FIELDS(F, T)                                                                                  \
	F(T, map, data, "data", API_MAP_DATA, _, 0, 4096, NULL, "Keys and values; in base64 in a Secret.") \
	F(T, flag, immutable, "immutable", 0, _, 0, 0, NULL, "Once true, neither this nor the data can change.")
#define CONFIGMAP(F, T)   \
	API_META(F, T)    \
	DATA_FIELDS(F, T) \
	F(T, map, binary, "binaryData", API_MAP_DATA, _, 0, 4096, NULL, "Keys and values in base64.")
API_DECLARE(configmap, CONFIGMAP)
#define SECRET(F, T)                                                                           \
	API_META(F, T)                                                                         \
	DATA_FIELDS(F, T)                                                                      \
	F(T, str, type, "type", 0, any, 0, 253, "\"Opaque\"", "What it is for; can't change.") \
	F(T, map, text, "stringData", API_MAP_DATA, _, 0, 4096, NULL, "Only written: becomes data.")
API_DECLARE(secret, SECRET)

#define ACCOUNT_REF(F, T) F(T, str, name, "name", 0, any, 0, 253, NULL, "Name of a Secret of the same namespace.")
API_DECLARE(account_ref, ACCOUNT_REF)
#define SERVICEACCOUNT(F, T)                                                                 \
	API_META(F, T)                                                                       \
	F(T, list, secrets, "secrets", API_KEY_NAME | API_ATOMIC, account_ref, 0, 256, NULL, \
	  "Secrets that belong to it.")                                                      \
	F(T, flag, automount, "automountServiceAccountToken", 0, _, 0, 0, NULL, "Kept for clients; means nothing here.")
API_DECLARE(serviceaccount, SERVICEACCOUNT)

extern const struct api_kind api_kind_configmap, api_kind_secret, api_kind_serviceaccount;
