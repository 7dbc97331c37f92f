/* SPDX-License-Identifier: Apache-2.0 */

/* The network of an instance (node/instnet.h), which is there also while its machine isn't. */

#include "net/netns.h"
#include "node/part.h"

static int network_ensure(struct guest_look *l, struct error *err) {
	_nl_free_ struct nl *public = NULL;
	const struct instnet_config c = {.prefix = l->host->prefix,
	                                 .id = l->id,
	                                 .spec = &l->spec->net,
	                                 .uid = l->user,
	                                 .mtu = (uint32_t)l->spec->vm.mtu};
	char netns[NETNS_PATH_MAX];
	int r = nl_open(&public, l->host->public_fd, err);

	if (r >= 0)
		r = instnet_ensure(&c, public, l->host->public_fd, &l->ret->nft_state, err);
	if (r < 0)
		return r;
	l->ret->connected = true;
	l->ret->network_lost = l->pid && container_is_in(l->pid, netns_path(l->name, netns)) == 0;
	return 0;
}

static int network_configure(struct guest_look *l, _unused_ struct error *err) {
	if (!l->spec->net.net.addr.family)
		return 0;
	snprintf(l->vm.tap, sizeof(l->vm.tap), "%s", INSTNET_TAP);
	l->vm.mac = l->spec->net.mac;
	l->vm.prefix = l->spec->net.net;
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
                                  .ensure = network_ensure,
                                  .configure = network_configure,
                                  .remove = network_remove};
