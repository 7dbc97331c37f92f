/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The formats that strings of the API may have; see struct api_format. */

#include "api/api.h"

extern const struct api_format api_format_any;
extern const struct api_format api_format_label;     /* RFC 1123 label, 63 bytes */
extern const struct api_format api_format_subdomain; /* labels joined by dots, 253 bytes */
extern const struct api_format api_format_segment;   /* any text that can be one segment of a path */
extern const struct api_format api_format_qualified; /* [subdomain/]name, for keys of labels and for finalizers */
extern const struct api_format api_format_key;       /* for keys of the data of ConfigMaps and Secrets */
extern const struct api_format api_format_ip;
extern const struct api_format api_format_ip4;
extern const struct api_format api_format_ip6;
extern const struct api_format api_format_prefix; /* canonical, host bits 0 */
extern const struct api_format api_format_prefix6;
extern const struct api_format api_format_mac;
extern const struct api_format api_format_time;
extern const struct api_format api_format_microtime;
extern const struct api_format api_format_domain; /* a name of the DNS without a dot at the end (vm/dnsname.h) */
extern const struct api_format api_format_file;   /* relative file name without ".." */
extern const struct api_format api_format_condition_status;
extern const struct api_format api_format_selector_operator;
extern const struct api_format api_format_direction; /* of traffic, as an instance sees it: ingress, egress */

#define API_ENUM(id, label, ...)                                          \
	static const char *const api_values_##id[] = {__VA_ARGS__, NULL}; \
	const struct api_format api_format_##id = {.name = label, .values = api_values_##id};
