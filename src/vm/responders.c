/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/responders.h"

#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vm/dhcp4.h"
#include "vm/dhcp6.h"
#include "vm/metadata.h"
#include "vm/ra.h"

struct responders {
	struct ra *ra;
	struct responder *dhcp4, *dhcp6;
	struct metadata *metadata;
};

int responders_open(const char *ifname, struct vm_fds *fds, struct error *err) {
	int r = ra_open(ifname, &fds->fd[VM_FD_RA], err);

	if (r >= 0)
		r = dhcp4_open(ifname, &fds->fd[VM_FD_DHCP4], err);
	if (r >= 0)
		r = dhcp6_open(ifname, &fds->fd[VM_FD_DHCP6], err);
	if (r >= 0)
		r = metadata_open(ifname, AF_INET, &fds->fd[VM_FD_METADATA4], err);
	return r < 0 ? r : metadata_open(ifname, AF_INET6, &fds->fd[VM_FD_METADATA6], err);
}

/* Reads the MAC of an interface in the namespace of the socket FD. */
static int interface_mac(int fd, const char *ifname, struct mac *ret, struct error *err) {
	struct ifreq ifr = {0};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	if (ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
		return error_errno(err, errno, "MAC of interface `%s`", ifname);
	memcpy(ret->bytes, ifr.ifr_hwaddr.sa_data, 6);
	return 0;
}

static int start_ra(struct responders *r, sd_event *loop, const struct vm_config *c, int *fd, struct error *err) {
	struct mac router;

	if (!c->prefix.addr.family)
		return 0;
	int res = interface_mac(*fd, c->tap, &router, err);
	return res < 0 ? res : ra_new(&r->ra, loop, TAKE_FD(*fd), c, &router, err);
}

static int start_dhcp4(struct responders *r, sd_event *loop, const struct vm_config *c, int *fd, struct error *err) {
	return c->ipv4.family ? dhcp4_new(&r->dhcp4, loop, TAKE_FD(*fd), c, err) : 0;
}

/* A guest that an older agent prepared has no sockets for DHCPv6 and metadata. */
static int start_dhcp6(struct responders *r, sd_event *loop, const struct vm_config *c, int *fd, struct error *err) {
	return c->prefix.addr.family && *fd >= 0 ? dhcp6_new(&r->dhcp6, loop, TAKE_FD(*fd), c, err) : 0;
}

static int start_metadata(struct responders *r, sd_event *loop, const struct vm_config *c, int *fd4, int *fd6,
                          struct error *err) {
	int four = c->ipv4.family ? TAKE_FD(*fd4) : -1;

	return c->tap[0] ? metadata_new(&r->metadata, loop, four, TAKE_FD(*fd6), c, err) : 0;
}

int responders_new(struct responders **ret, sd_event *loop, const struct vm_config *config, struct vm_fds *fds,
                   struct error *err) {
	_close_ int ra = TAKE_FD(fds->fd[VM_FD_RA]), dhcp4 = TAKE_FD(fds->fd[VM_FD_DHCP4]);
	_close_ int dhcp6 = TAKE_FD(fds->fd[VM_FD_DHCP6]);
	_close_ int metadata4 = TAKE_FD(fds->fd[VM_FD_METADATA4]), metadata6 = TAKE_FD(fds->fd[VM_FD_METADATA6]);
	_cleanup_(cleanup_responders) struct responders *r = calloc(1, sizeof(*r));

	if (!r)
		return error_oom(err);
	int res = start_ra(r, loop, config, &ra, err);
	if (res >= 0)
		res = start_dhcp4(r, loop, config, &dhcp4, err);
	if (res >= 0)
		res = start_dhcp6(r, loop, config, &dhcp6, err);
	if (res >= 0)
		res = start_metadata(r, loop, config, &metadata4, &metadata6, err);
	if (res < 0)
		return res;
	*ret = TAKE_PTR(r);
	return 0;
}

struct responders *responders_free(struct responders *r) {
	if (!r)
		return NULL;
	ra_free(r->ra);
	responder_free(r->dhcp4);
	responder_free(r->dhcp6);
	metadata_free(r->metadata);
	free(r);
	return NULL;
}
