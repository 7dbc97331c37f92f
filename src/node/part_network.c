/* SPDX-License-Identifier: Apache-2.0 */

/* The network of an instance (node/instnet.h), which exists even while the machine doesn't run. */

#include "base/util.h"
#include "net/netns.h"
#include "node/firewall_plan.h"
#include "node/part.h"

static int network_read_ingress(const struct instance_ingress *in, struct instnet_ingress *out, struct error *err) {
	out->proto = streq(in->protocol, "tcp") ? INSTNET_TCP : streq(in->protocol, "udp") ? INSTNET_UDP : INSTNET_ICMP;
	out->port = in->port.set ? in->port.v : 0;
	return in->from ? prefix_parse(in->from, &out->from, err) : 0;
}

/*
 * The IPv4 part. An instance that shares public addresses but has no slice has no IPv4: the cloud had no pool of shared
 * addresses when it was placed. Its machine knows the private address all the same, and answers DHCPv4, which the rules
 * let through once there is a slice.
 */
static int network_read_ipv4(const struct instance *inst, struct instnet_spec *net, struct error *err) {
	const struct instance_status *st = inst->status;
	enum instance_ipv4 how = instance_ipv4(inst->spec);
	int r = 0;

	if (how == INSTANCE_IPV4_DEDICATED && st->public_ipv4 && *st->public_ipv4) {
		net->ipv4 = INSTNET_DEDICATED;
		return addr_parse(st->public_ipv4, &net->address4, err);
	}
	if (how != INSTANCE_IPV4_SHARED)
		return 0;
	net->address4 = instnet_shared_address();
	if (!st->port_slices.n)
		return 0;
	net->ipv4 = INSTNET_SHARED;
	for (size_t i = 0; i < st->port_slices.n && i < INSTNET_SLICES_MAX && r >= 0; i++) {
		const struct instance_slice *from = &st->port_slices.v[i];
		struct instnet_slice *to = &net->slices[net->n_slices++];
		to->first = from->first_port.v;
		to->last = from->last_port.v;
		r = addr_parse(from->address, &to->address, err);
	}
	for (size_t i = 0; i < st->forwards.n && i < INSTNET_FORWARDS_MAX && r >= 0; i++) {
		const struct instance_forwarded *from = &st->forwards.v[i];
		struct instnet_forward *to = &net->forwards[net->n_forwards++];
		to->proto = streq(from->protocol, "udp") ? INSTNET_UDP : INSTNET_TCP;
		to->port = from->port.v;
		to->target = from->target_port.v;
		r = addr_parse(from->address, &to->address, err);
	}
	return r;
}

/* What the guest is told about the DNS when it starts. The domain of its own name is the first one to search. */
static int network_read_dns(const struct instance_status *st, struct vm_config *vm, struct error *err) {
	int r = 0;

	for (size_t i = 0; i < st->dns_servers.n && i < VM_DNS_MAX && r >= 0; i++)
		r = addr_parse(st->dns_servers.v[i], &vm->dns[vm->n_dns++].address, err);
	for (size_t i = 0; i < st->dns_search.n && i < VM_SEARCH_MAX; i++)
		snprintf(vm->search[vm->n_search++].domain, sizeof(vm->search[0].domain), "%s", st->dns_search.v[i]);
	if (vm->n_search)
		snprintf(vm->domain, sizeof(vm->domain), "%s", vm->search[0].domain);
	return r;
}

static int network_desire(const struct part_source *s, struct guest_spec *spec, struct error *err) {
	const struct instance_status *st = s->inst->status;
	const struct instance_spec *is = s->inst->spec;
	struct instnet_spec *net = &spec->net;
	int r = mac_parse(st->mac, &net->mac, err);

	if (r >= 0)
		r = addr_parse(st->overlay_address, &net->ip, err);
	if (r >= 0)
		r = prefix_parse(st->prefix, &net->net, err);
	if (r >= 0 && st->delegated_prefix && *st->delegated_prefix)
		r = prefix_parse(st->delegated_prefix, &net->delegated, err);
	for (size_t i = 0; i < is->ingress.n && i < INSTNET_INGRESS_MAX && r >= 0; i++)
		r = network_read_ingress(&is->ingress.v[i], &net->ingress[net->n_ingress++], err);
	if (r >= 0)
		r = network_read_ipv4(s->inst, net, err);
	return r < 0 ? r : network_read_dns(st, &spec->vm, err);
}

/* Says which of the Firewalls that select the instance are not applied, and why: the first one, and how many more. */
static int network_check_firewalls(const struct guest_look *l, struct error *err) {
	const struct firewall_attached *a = &l->firewalls.is;
	const struct firewall_state *now = &l->ret->network.firewall;
	struct firewall_sizes sizes = {0};
	struct firewall_verdict verdicts[FIREWALL_ATTACHED_MAX];
	char message[FIREWALL_MESSAGE_MAX];
	int r = 0;

	if (l->firewalls.pending)
		return error_set(err, EAGAIN, "the Firewalls of the namespace are not known yet");
	if (a->unknown)
		return error_set(err, EBADMSG,
		                 "a Firewall of the namespace is not understood by the host's agent, whose log names "
		                 "the field; until that is mended the rules stay as they are");
	if (l->firewalls.stale)
		return error_set(err, EBADMSG,
		                 "a Firewall of the namespace is not understood by the host's agent, whose log names "
		                 "the field; until that is mended its last version that was understood holds");
	if (now->limited)
		r = firewall_sizes(a, &sizes);
	if (now->limited && r >= 0)
		firewall_judge(sizes.v, sizes.n, verdicts);
	for (size_t k = 0; k < a->n && r >= 0; k++)
		if (now->limited & UINT32_C(1) << k)
			r = error_set(err, E2BIG, "Firewall `%s` is not applied: %s", a->v[k]->meta.name,
			              firewall_verdict_message(&verdicts[k], message));
		else if (now->crowded & UINT32_C(1) << k)
			r = error_set(err, E2BIG,
			              "Firewall `%s` is not applied: with it and those before it in order of name the "
			              "instances that peers match have more than %d addresses; let peers match fewer "
			              "instances, or write their prefixes",
			              a->v[k]->meta.name, FIREWALL_ADDRESSES_MAX);
		else if (now->deep & UINT32_C(1) << k)
			r = error_set(err, EOVERFLOW,
			              "Firewall `%s` is not applied: its rules overlap those of the instance's "
			              "Firewalls more than %d times; use rules whose prefixes or ports contain each "
			              "other or are apart",
			              a->v[k]->meta.name, FIREWALL_LAYERS_MAX);
	firewall_sizes_done(&sizes);
	if (r >= 0 && l->firewalls.beyond)
		r = error_set(err, E2BIG, "%zu Firewalls select it, and only the first %d in order of name are applied",
		              a->n + l->firewalls.beyond, FIREWALL_ATTACHED_MAX);
	return r;
}

static int network_ensure(struct guest_look *l, struct error *err) {
	_nl_free_ struct nl *public = NULL;
	const struct instnet_config c = {.prefix = l->host->prefix,
	                                 .id = l->id,
	                                 .spec = &l->spec->net,
	                                 .open_slices = l->open_slices,
	                                 .netfilter = l->netfilter,
	                                 .firewalls = &l->firewalls.is,
	                                 .firewall_failed = &l->ret->firewall,
	                                 .uid = l->user,
	                                 .mtu = (uint32_t)l->spec->vm.mtu};
	char netns[NETNS_PATH_MAX];
	int r = nl_open(&public, l->host->public_fd, err);

	if (r >= 0)
		r = instnet_ensure(&c, public, l->host->public_fd, &l->ret->network, err);
	if (r < 0)
		return r;
	l->ret->connected = true;
	if (!l->ret->firewall.code)
		(void)!network_check_firewalls(l, &l->ret->firewall);
	l->ret->network_lost = l->pid && container_is_in(l->pid, netns_path(l->name, netns)) == 0;
	return 0;
}

static int network_configure(struct guest_look *l, _unused_ struct error *err) {
	if (!l->spec->net.net.addr.family)
		return 0;
	snprintf(l->vm.tap, sizeof(l->vm.tap), "%s", INSTNET_TAP);
	l->vm.mac = l->spec->net.mac;
	l->vm.prefix = l->spec->net.net;
	l->vm.delegated = l->spec->net.delegated;
	l->vm.ipv4 = l->spec->net.address4;
	if (l->vm.ipv4.family)
		l->vm.ipv4_router = instnet_gateway4();
	if (l->spec->net.ipv4 == INSTNET_DEDICATED)
		l->vm.public4 = l->spec->net.address4;
	else if (l->spec->net.n_slices)
		l->vm.public4 = l->spec->net.slices[0].address;
	l->container.tap = INSTNET_TAP;
	return 0;
}

static int network_remove(struct guest_look *l, struct error *err) {
	_nl_free_ struct nl *public = NULL;
	int r = nl_open(&public, l->host->public_fd, err);

	return r < 0 ? r : instnet_remove(l->host->prefix, l->id, public, err);
}

const struct part part_network = {.name = "network",
                                  .reason = "NetworkFailed",
                                  .desire = network_desire,
                                  .ensure = network_ensure,
                                  .configure = network_configure,
                                  .remove = network_remove};
