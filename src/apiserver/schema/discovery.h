/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What clients ask about the API itself: groups, resources, OpenAPI, version. All of it is made from api_kinds.
 * Each function yields a new JSON tree, NULL on no memory.
 */

#include <jansson.h>
#include <stdbool.h>

json_t *discovery_core_versions(void);                               /* /api */
json_t *discovery_groups(void);                                      /* /apis */
json_t *discovery_group(const char *group);                          /* /apis/GROUP; json_null() if there is none */
json_t *discovery_resources(const char *group, const char *version); /* the same for /api/v1, /apis/GROUP/VERSION */
json_t *discovery_aggregated(bool core);                             /* apidiscovery.k8s.io/v2 APIGroupDiscoveryList */
/*
 * The built-in kinds as CustomResourceDefinitions, for clients that look there for the schema of what they create
 * (Terraform's kubernetes_manifest). Nobody can change them.
 */
json_t *discovery_crd(const char *name);  /* json_null() if there is none */
json_t *discovery_crds(const char *only); /* the list; ONLY: of one by its name, NULL: of all */
json_t *discovery_version(void);
/* All paths of which something is told without naming an object. */
json_t *discovery_paths(void); /* /version */
