/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by the files of nacre-lb: lb.c follows the API, metrics.c reports. */

#include "fabric/announce.h"
#include "kube/cache.h"
#include "lb/assignments.h"
#include "lb/lb.h"
#include "net/underlay.h"

#define LB_ROUTES_MAX 64 /* of an Endpoint */

struct lb {
	struct lb_config c;
	int lock;
	struct balancer *table;
	struct assignments *assignments;
	struct kube_cache *pools;
	struct announcer *announcer;
	sd_event_source *sync_src, *tick_src;
	bool endpoints_known; /* all Endpoints were seen at least once */
	bool filling;         /* all that is known is being set, since balancer_begin() */
	bool complete;        /* the table has everything but what ASSIGNMENTS counts as failed */
	bool swept;           /* the table has nothing that no Endpoint or AddressPool asks for */
	bool attached;        /* the program runs on all NICs */
	bool ready;
	bool announce;                             /* the Endpoint's content may have to change */
	bool look;                                 /* look at the NICs */
	struct prefix prefixes[BALANCER_PREFIXES]; /* in the table, in order */
	size_t n_prefixes;
	/* What this host's Endpoint announced at the start. Forgotten once all AddressPools are understood. */
	struct prefix kept[LB_ROUTES_MAX];
	size_t n_kept;
	size_t modes[2];     /* NICs by mode */
	struct error faults; /* why an address or prefix is not in the table */
	struct fabric_condition condition;
	bool bad; /* the last call of `state` reported an error */
	char last_error[512];
};
