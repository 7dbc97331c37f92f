/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The compute agent. It passes what the API says about instances of this host to the hypervisor (node/hypervisor.h),
 * and writes what the hypervisor sees to the API.
 *
 * In an Instance that is bound to this host the agent writes status.phase, restarts, portSlicesWanted, firewall and the
 * conditions Ready, PortsAvailable and FirewallApplied. For each such Instance it owns the Endpoint "i-UID". Everything
 * else is the controller's. When an Instance is deleted, the agent removes its Endpoint and its guest. Then it sets
 * phase to Removed, which tells the controller that everything that the Instance held is free.
 *
 * While the API is away the agent changes nothing, and what runs goes on running. The same holds for what belongs to an
 * Instance that the agent does not understand, and for its Endpoint. If the agent can't read which instance that is,
 * nothing of any instance is removed that it doesn't know to be deleted.
 */

#include "api/instance.h"
#include "fabric/fabric.h"
#include "node/hypervisor.h"

struct agent_config {
	sd_event *loop;
	struct kube_client *client;
	struct fabric *fabric;
	const char *host; /* name of this host */
	const char *vtep;
	const char *image_dir;
	struct hypervisor_config hypervisor; /* loop, namespaces and callbacks are filled in by the agent */
	/* Only a person can mend this problem. ERR NULL: it is mended. */
	void (*problem)(const char *what, const struct error *err, void *userdata);
	/* The firewall of an instance dropped packets; at most 20 times a minute for each. */
	void (*dropped)(const struct instance *inst, const struct firewall_drop *drop, void *userdata);
	/* agent_ready() has become true. */
	void (*ready)(void *userdata);
	/* The agent can't go on, but a new process may. */
	void (*failed)(const struct error *err, void *userdata);
	void *userdata;
};

struct agent;

/* Adopts what runs on the host; the loop does the rest. The strings of C must outlive the agent. */
int agent_new(struct agent **ret, const struct agent_config *c, struct error *err) _must_use_;
/* Leaves everything on the host as it is. */
struct agent *agent_free(struct agent *a);
DEFINE_CLEANUP(agent, struct agent *, agent_free)

/* True once all instances of this host are known, nothing is left of others, and it is known whether KVM works. */
bool agent_ready(const struct agent *a);
/* As hypervisor_uses_kvm(). */
bool agent_uses_kvm(const struct agent *a, const char **ret_why_not);
/* Control group controllers that this host doesn't offer; enum cgroup_controller. */
unsigned agent_missing_controllers(const struct agent *a);
void agent_stats(const struct agent *a, struct hypervisor_stats *ret);
/* How many objects that this agent follows it does not understand (kube/cache.h). */
size_t agent_not_understood(const struct agent *a);

/* For fabric_config: a change of any Endpoint. */
void agent_endpoint(struct agent *a, const struct kube_change *ch);
/* For fabric_config: the device of an Endpoint that an agent owns. */
const char *agent_device(const struct endpoint *ep, char out[static 16], void *userdata);
