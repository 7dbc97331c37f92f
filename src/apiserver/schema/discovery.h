/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Discovery: groups, resources, CustomResourceDefinitions, version, all from api_kinds. Each function returns a new
 * JSON tree; NULL: no memory.
 */

#include <jansson.h>
#include <stdbool.h>

json_t *discovery_core_versions(void);      /* /api */
json_t *discovery_groups(void);             /* /apis */
json_t *discovery_group(const char *group); /* /apis/GROUP; json_null(): no such group */
json_t *discovery_resources(const char *group,
                            const char *version); /* /api/v1, /apis/GROUP/VERSION; json_null(): no such version */
json_t *discovery_aggregated(bool core);          /* apidiscovery.k8s.io/v2 APIGroupDiscoveryList */
/*
 * The built-in kinds as CustomResourceDefinitions. Some clients (Terraform's kubernetes_manifest) look there for the
 * schema of what they create. Nobody can change them.
 */
json_t *discovery_crd(const char *name);  /* json_null(): no such CRD */
json_t *discovery_crds(const char *only); /* a list; ONLY: the name of the one to list; NULL: all */
json_t *discovery_version(void);          /* /version */
/* All paths that can be read without naming an object. */
json_t *discovery_paths(void);
