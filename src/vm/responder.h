/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the protocols of vm/responders.h have in common: a socket that is bound to the guest's tap and, for those of
 * datagrams, a handler of each message and a bucket that limits its answers.
 */

#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "vm/bucket.h"
#include "vm/config.h"

struct responder_option {
	int level, name;
	const void *value;
	socklen_t len;
};

struct responder_socket {
	const char *what; /* what it is for: "serve DHCPv4" */
	int family, type, protocol;
	const struct responder_option *options; /* in addition to the device */
	size_t n_options;
	const void *address; /* to bind it to; NULL: none */
	socklen_t address_len;
};

/* Opens the socket, which doesn't block, for one interface of this network namespace. */
int responder_open(const struct responder_socket *s, const char *ifname, int *ret_fd, struct error *err) _must_use_;

struct responder_kind {
	const char *what;         /* the messages: "DHCPv4 messages" */
	uint64_t burst, every_ns; /* of the bucket */
	sd_event_io_handler_t on_io;
};

struct responder {
	int fd;
	struct vm_config config;
	sd_event_source *io;
	struct bucket answers;
};

/*
 * Calls K->on_io with USERDATA, or with the responder if that is NULL, when there is a message. Takes ownership of FD
 * even on failure. Copies CONFIG.
 */
int responder_new(struct responder **ret, const struct responder_kind *k, sd_event *loop, int fd,
                  const struct vm_config *config, void *userdata, struct error *err) _must_use_;
struct responder *responder_free(struct responder *r);

DEFINE_CLEANUP(responder, struct responder *, responder_free)
