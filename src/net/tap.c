/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "net/link.h"
#include "net/netns.h"

struct tap {
	const char *name;
	uid_t owner;
	uint32_t mtu;
	int fd;
};

static int tap_open_here(void *arg, struct error *err) {
	struct tap *t = arg;
	struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	_close_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_close_ int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (sock < 0 || fd < 0)
		return error_errno(err, errno, "tap `%s`: open `/dev/net/tun`", t->name);
	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", t->name);
	if (ioctl(fd, TUNSETIFF, &req) < 0)
		return error_errno(err, errno, "tap `%s`: attach", t->name);
	if (ioctl(fd, TUNSETOWNER, (unsigned long)t->owner) < 0 || ioctl(fd, TUNSETPERSIST, 1UL) < 0)
		return error_errno(err, errno, "tap `%s`: set owner", t->name);
	req.ifr_mtu = (int)t->mtu;
	if (ioctl(sock, SIOCSIFMTU, &req) < 0)
		return error_errno(err, errno, "tap `%s`: set the MTU %u", t->name, t->mtu);
	if (ioctl(sock, SIOCGIFFLAGS, &req) < 0)
		return error_errno(err, errno, "tap `%s`: read flags", t->name);
	req.ifr_flags |= IFF_UP;
	if (ioctl(sock, SIOCSIFFLAGS, &req) < 0)
		return error_errno(err, errno, "tap `%s`: bring up", t->name);
	t->fd = TAKE_FD(fd);
	return 0;
}

int link_open_tap(int netns_fd, const char *name, uid_t owner, uint32_t mtu, int *ret_fd, struct error *err) {
	struct tap t = {.name = name, .owner = owner, .mtu = mtu, .fd = -1};
	if (!*name || strlen(name) >= IFNAMSIZ)
		return error_set(err, EINVAL, "tap `%s`: not a usable name (1 to %d characters)", name, IFNAMSIZ - 1);
	int r = netns_run(netns_fd, tap_open_here, &t, err);
	if (r >= 0)
		*ret_fd = t.fd;
	return r;
}
