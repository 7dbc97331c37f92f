/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * rtnetlink sockets (rtnetlink(7)), on top of libmnl.
 *
 * A socket always belongs to the namespace in which it was opened. So one process programs many namespaces with one
 * `struct nl` for each, without switching namespaces.
 *
 * Three uses:
 * - one request: nl_request(), mnl_attr_put*(), then nl_send() (waits for the acknowledgement),
 *   nl_get() (one answer) or nl_dump() (many);
 * - many requests: a `struct nl_batch` packs them into few sends; only failures are reported, each
 *   to a callback with the cookie that was given with its message;
 * - notifications: nl_subscribe() gives a non-blocking socket whose nl_fd() goes into an event loop.
 *
 * Errors hold the kernel's own explanation (extended acknowledgement) if there is one.
 */

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* The largest single message that we send. */
#define NL_MSG_MAX 4096

struct nl;

/* Opens an rtnetlink socket in the namespace of NETNS_FD, or in the caller's if it is -1. */
int nl_open(struct nl **ret, int netns_fd, struct error *err) _must_use_;
/* The same for netfilter's subsystems (net/conntrack.h). */
int nl_open_netfilter(struct nl **ret, int netns_fd, struct error *err) _must_use_;
/*
 * Takes over a socket that was opened before this process was forked, and that other forks may have used: throws away
 * answers that they left unread. False: the socket doesn't belong to the namespace of NETNS_FD.
 */
bool nl_inherit(struct nl *n, int netns_fd);
/* Takes over FD, a netlink socket that another process has opened and passed on; closes it if that fails. */
int nl_adopt(struct nl **ret, int fd, struct error *err) _must_use_;
struct nl *nl_free(struct nl *n);
DEFINE_CLEANUP(nl, struct nl *, nl_free)
#define _nl_free_ _cleanup_(cleanup_nl)

/*
 * Starts a message in the socket's own buffer, which the next nl_request() reuses. HDR is the family header (struct
 * rtmsg, ...); it is copied. The message has room for NL_MSG_MAX bytes in all.
 */
struct nlmsghdr *nl_request(struct nl *n, uint16_t type, uint16_t flags, const void *hdr, size_t len);

/* Sends H and waits for its acknowledgement. WHAT is the beginning of the error message: "add route 2001:db8::/64". */
int nl_send(struct nl *n, struct nlmsghdr *h, struct error *err, const char *what, ...) _printf_(4, 5) _must_use_;

/* Called for each message that arrived. A negative result ends the reading and is returned to the caller. */
typedef int (*nl_handler)(const struct nlmsghdr *h, void *userdata);

/* Sends H and passes the answer to HANDLER. */
int nl_get(struct nl *n, struct nlmsghdr *h, nl_handler handler, void *userdata, struct error *err, const char *what,
           ...) _printf_(6, 7) _must_use_;

/*
 * Sends H as a dump request. HANDLER is called for each object. If the kernel says that its tables changed during the
 * dump, the dump is repeated up to 8 times, so HANDLER may see an object twice; -EAGAIN if the tables changed every
 * time.
 */
int nl_dump(struct nl *n, struct nlmsghdr *h, nl_handler handler, void *userdata, struct error *err, const char *what,
            ...) _printf_(6, 7) _must_use_;

/* Opens a non-blocking socket that joins multicast groups (RTNLGRP_*); GROUPS ends in 0. */
int nl_subscribe(struct nl **ret, int netns_fd, const unsigned *groups, struct error *err) _must_use_;
/* Makes the kernel drop notifications that requests of REQUESTER caused, before they reach SUBSCRIBER. */
int nl_ignore(struct nl *subscriber, const struct nl *requester, struct error *err) _must_use_;
int nl_fd(const struct nl *n);
/* Passes all messages that have arrived to HANDLER. -ENOBUFS: notifications were lost, so the caller must read the
 * whole state. */
int nl_receive(struct nl *n, nl_handler handler, void *userdata, struct error *err) _must_use_;

/* Puts the attributes after a family header of HDRLEN bytes into TB[0..MAX]. Absent attributes are NULL; larger numbers
 * are ignored. */
void nl_attrs(const struct nlmsghdr *h, size_t hdrlen, const struct nlattr **tb, unsigned max);
/* The value of an integer attribute; 0 if it is absent or too short. */
uint32_t nl_u32(const struct nlattr *a);
uint8_t nl_u8(const struct nlattr *a);
/* Copies the SIZE bytes of the attribute; true only if it is present and exactly SIZE bytes long. */
bool nl_bytes(const struct nlattr *a, void *out, size_t size);

/* A table of attributes says where in a struct each value is; it ends in {0}. */
enum nl_type {
	NL_U8_ALWAYS, /* also put when it is 0 */
	NL_U16_BE,    /* network order in the message, host order in the struct */
	NL_U32,
	NL_TEXT,  /* a char array; always ends in NUL and is cut if the message has more */
	NL_BYTES, /* as many bytes as the member has */
	NL_ADDR6, /* a struct addr; put only if it is IPv6 */
	NL_NEST,  /* holds the attributes of NESTED, after HEADER bytes of 0; their values are in the same struct */
};
struct nl_field {
	uint16_t attr;
	enum nl_type type;
	size_t offset, size, header;
	const struct nl_field *nested;
};
/* Appends the attributes whose value is not all zero, and all nests. */
void nl_put_fields(struct nlmsghdr *h, const struct nl_field *fields, const void *from);
/* Reads the attributes that the message has with the right size (after a family header of HDRLEN bytes); other members
 * stay unchanged. */
void nl_read_fields(const struct nlmsghdr *h, size_t hdrlen, const struct nl_field *fields, void *to);

/*
 * Sends a transaction of netfilter (linux/netfilter/nfnetlink.h): LEN bytes of whole messages, the first of which
 * begins the batch and the last of which ends it; there is one between them at least. Sequence numbers are given here.
 * The kernel carries out all of it or nothing. At most NL_TRANSACTION_MAX bytes.
 */
#define NL_TRANSACTION_MAX (2U << 20)
int nl_transact(struct nl *n, void *messages, size_t len, struct error *err) _must_use_;

/* -- batches -- */

#define NL_BATCH_MSGS  1024
#define NL_BATCH_BYTES (128U << 10)

/* CODE is positive; TEXT is the kernel's explanation or that of strerror(3). Must not use the batch. */
typedef void (*nl_batch_failed)(void *cookie, int code, const char *text, void *userdata);

struct nl_batch {
	struct nl *nl;
	nl_batch_failed failed;
	void *userdata;
	uint8_t *buf;
	size_t len;            /* bytes of the finished messages in buf */
	struct nlmsghdr *open; /* the unfinished message after them, or NULL */
	struct nlmsghdr *last;
	uint64_t sent; /* messages sent since nl_batch_init() */
	uint32_t seq0; /* sequence number of the first message in buf */
	unsigned count;
	void *cookies[NL_BATCH_MSGS];
};

int nl_batch_init(struct nl_batch *b, struct nl *nl, nl_batch_failed failed, void *userdata,
                  struct error *err) _must_use_;
void nl_batch_done(struct nl_batch *b);

/*
 * Starts another message; the one before is complete from now on. If the batch is full it is flushed first; NULL if
 * that flush failed as a whole (ERR is filled).
 */
struct nlmsghdr *nl_batch_add(struct nl_batch *b, uint16_t type, uint16_t flags, const void *hdr, size_t len,
                              void *cookie, struct error *err) _must_use_;

/* Sends all messages of the batch and waits until the kernel has processed them. Failures of single messages go to
 * `failed`. */
int nl_batch_flush(struct nl_batch *b, struct error *err) _must_use_;
