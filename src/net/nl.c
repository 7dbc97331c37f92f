/* SPDX-License-Identifier: Apache-2.0 */
#include "net/nl.h"

#include <linux/filter.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/inet.h"
#include "base/util.h"
#include "net/netns.h"

/* The kernel fills dump messages up to 32 KiB if the reader's buffer is large enough. */
#define RECV_BYTES (64U << 10)
/* Holds an acknowledgement for each message of a batch (about 1 KiB of kernel memory each). */
#define RCVBUF_BYTES (4U << 20)
#define DUMP_RETRIES 8

struct nl {
	struct mnl_socket *sock;
	int protocol; /* NETLINK_* */
	uint32_t portid;
	uint32_t seq;
	uint8_t out[NL_MSG_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	uint8_t in[RECV_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
};

static int nl_open_here(void *arg, struct error *err) {
	struct nl *n = arg;
	int one = 1, size = RCVBUF_BYTES;
	n->sock = mnl_socket_open2(n->protocol, SOCK_CLOEXEC);
	if (!n->sock)
		return error_errno(err, errno, "open a netlink socket");
	if (mnl_socket_bind(n->sock, 0, MNL_SOCKET_AUTOPID) < 0)
		return error_errno(err, errno, "bind a netlink socket");
	/* Without strict checking the kernel ignores filters in dump requests. */
	if (mnl_socket_setsockopt(n->sock, NETLINK_EXT_ACK, &one, sizeof(one)) < 0 ||
	    mnl_socket_setsockopt(n->sock, NETLINK_CAP_ACK, &one, sizeof(one)) < 0 ||
	    mnl_socket_setsockopt(n->sock, NETLINK_GET_STRICT_CHK, &one, sizeof(one)) < 0)
		return error_errno(err, errno, "set up a netlink socket");
	if (setsockopt(mnl_socket_get_fd(n->sock), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		return error_errno(err, errno, "set the receive buffer of a netlink socket");
	n->portid = mnl_socket_get_portid(n->sock);
	return 0;
}

static int nl_open_protocol(struct nl **ret, int protocol, int netns_fd, struct error *err) {
	_nl_free_ struct nl *n = calloc(1, sizeof(*n));
	if (!n)
		return error_oom(err);
	n->protocol = protocol;
	n->seq = 1;
	int r = netns_fd < 0 ? nl_open_here(n, err) : netns_run(netns_fd, nl_open_here, n, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(n);
	return 0;
}

int nl_open(struct nl **ret, int netns_fd, struct error *err) {
	return nl_open_protocol(ret, NETLINK_ROUTE, netns_fd, err);
}

int nl_open_netfilter(struct nl **ret, int netns_fd, struct error *err) {
	return nl_open_protocol(ret, NETLINK_NETFILTER, netns_fd, err);
}

/* Throws away answers that others have left unread. */
static void nl_drain(struct nl *n) {
	while (recv(nl_fd(n), n->in, sizeof(n->in), MSG_DONTWAIT) > 0)
		;
}

int nl_adopt(struct nl **ret, int fd, struct error *err) {
	_nl_free_ struct nl *n = calloc(1, sizeof(*n));

	if (n)
		n->sock = mnl_socket_fdopen(fd);
	if (!n || !n->sock) {
		safe_close(fd);
		return error_oom(err);
	}
	n->portid = mnl_socket_get_portid(n->sock);
	n->seq = 1;
	nl_drain(n);
	*ret = TAKE_PTR(n);
	return 0;
}

bool nl_inherit(struct nl *n, int netns_fd) {
	_close_ int own = ioctl(nl_fd(n), SIOCGSKNS);
	struct stat a, b;

	if (own < 0 || fstat(own, &a) < 0 || fstat(netns_fd, &b) < 0 || a.st_ino != b.st_ino || a.st_dev != b.st_dev)
		return false;
	nl_drain(n);
	return true;
}

struct nl *nl_free(struct nl *n) {
	if (n && n->sock)
		mnl_socket_close(n->sock);
	free(n);
	return NULL;
}

int nl_fd(const struct nl *n) {
	return mnl_socket_get_fd(n->sock);
}

static struct nlmsghdr *message(void *at, uint32_t seq, uint16_t type, uint16_t flags, const void *hdr, size_t len) {
	struct nlmsghdr *h = mnl_nlmsg_put_header(at);
	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	h->nlmsg_seq = seq;
	memcpy(mnl_nlmsg_put_extra_header(h, len), hdr, len);
	return h;
}

struct nlmsghdr *nl_request(struct nl *n, uint16_t type, uint16_t flags, const void *hdr, size_t len) {
	return message(n->out, ++n->seq, type, flags, hdr, len);
}

static int nl_send_all(struct nl *n, const void *data, size_t len, struct error *err) {
	ssize_t r;
	do
		r = mnl_socket_sendto(n->sock, data, len);
	while (r < 0 && errno == EINTR);
	return r < 0 ? error_errno(err, errno, "send on a netlink socket") : 0;
}

static ssize_t receive(struct nl *n) {
	ssize_t r;
	do
		r = mnl_socket_recvfrom(n->sock, n->in, sizeof(n->in));
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/* Returns the code of an acknowledgement (0 or positive), with the kernel's explanation or that of strerror(3). */
static int ack_code(const struct nlmsghdr *h, const char **ret_text) {
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
	if (mnl_nlmsg_get_payload_len(h) < sizeof(*e)) {
		*ret_text = "truncated acknowledgement";
		return EBADMSG;
	}
	if (e->error == 0)
		return 0;
	*ret_text = strerror(-e->error);
	if (h->nlmsg_flags & NLM_F_ACK_TLVS) {
		const struct nlattr *a;
		size_t off = sizeof(*e);
		if (!(h->nlmsg_flags & NLM_F_CAPPED) && e->msg.nlmsg_len >= sizeof(e->msg))
			off += e->msg.nlmsg_len - sizeof(e->msg);
		mnl_attr_for_each(a, h, off) {
			if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
				*ret_text = mnl_attr_get_str(a);
		}
	}
	return -e->error;
}

struct reading {
	nl_handler handler; /* NULL: waits only for an acknowledgement */
	void *userdata;
	bool interrupted;
};

/*
 * Reads until request SEQ is acknowledged or its dump has ended. Answers to older requests, which an earlier error left
 * unread, are skipped.
 */
static int await(struct nl *n, uint32_t seq, struct reading *rd, struct error *err) {
	int handler_failed = 0;
	for (;;) {
		ssize_t len = receive(n);
		if (len < 0)
			return error_errno(err, (int)len, "receive from a netlink socket");
		int left = (int)len;
		for (struct nlmsghdr *h = (void *)n->in; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			const char *text = NULL;
			if (h->nlmsg_seq != seq)
				continue;
			if (h->nlmsg_flags & NLM_F_DUMP_INTR)
				rd->interrupted = true;
			if (h->nlmsg_type == NLMSG_ERROR) {
				int code = ack_code(h, &text);
				if (code && !handler_failed)
					return error_set(err, code, "%s", text);
				return handler_failed;
			}
			if (h->nlmsg_type == NLMSG_DONE) {
				/* If a dump was broken off, the payload of its last message has the error. */
				int code = 0;
				if (mnl_nlmsg_get_payload_len(h) >= sizeof(code))
					memcpy(&code, mnl_nlmsg_get_payload(h), sizeof(code));
				if (handler_failed == 0 && code < 0 && code != -EINTR)
					return error_errno(err, code, "dump");
				return handler_failed;
			}
			if (rd->handler && handler_failed == 0) {
				handler_failed = rd->handler(h, rd->userdata);
				if (handler_failed < 0)
					error_errno(err, handler_failed, "read the kernel's answer");
				else
					handler_failed = 0;
			}
		}
	}
}

static int exchange(struct nl *n, struct nlmsghdr *h, struct reading *rd, struct error *err, const char *what,
                    va_list ap) {
	int r = nl_send_all(n, h, h->nlmsg_len, err);
	if (r >= 0)
		r = await(n, h->nlmsg_seq, rd, err);
	if (r < 0 && err) {
		char text[256];
		vsnprintf(text, sizeof(text), what, ap);
		error_prefix(err, "%s", text);
	}
	return r;
}

int nl_send(struct nl *n, struct nlmsghdr *h, struct error *err, const char *what, ...) {
	struct reading rd = {0};
	va_list ap;
	h->nlmsg_flags |= NLM_F_ACK;
	va_start(ap, what);
	int r = exchange(n, h, &rd, err, what, ap);
	va_end(ap);
	return r;
}

int nl_get(struct nl *n, struct nlmsghdr *h, nl_handler handler, void *userdata, struct error *err, const char *what,
           ...) {
	struct reading rd = {.handler = handler, .userdata = userdata};
	va_list ap;
	h->nlmsg_flags |= NLM_F_ACK;
	va_start(ap, what);
	int r = exchange(n, h, &rd, err, what, ap);
	va_end(ap);
	return r;
}

int nl_dump(struct nl *n, struct nlmsghdr *h, nl_handler handler, void *userdata, struct error *err, const char *what,
            ...) {
	int r = 0;
	h->nlmsg_flags |= NLM_F_DUMP;
	for (int i = 0; i < DUMP_RETRIES; i++) {
		struct reading rd = {.handler = handler, .userdata = userdata};
		va_list ap;
		h->nlmsg_seq = ++n->seq;
		va_start(ap, what);
		r = exchange(n, h, &rd, err, what, ap);
		va_end(ap);
		if (r < 0 || !rd.interrupted)
			return r;
	}
	return error_set(err, EAGAIN, "the kernel's tables kept changing while they were read");
}

/* Numbers the messages, and asks for an acknowledgement of the last one before the end. */
static uint32_t nl_number(struct nl *n, void *messages, size_t len) {
	struct nlmsghdr *last = NULL;
	int left = (int)len;

	for (struct nlmsghdr *h = messages; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
		h->nlmsg_seq = ++n->seq;
		if (left > (int)MNL_ALIGN(h->nlmsg_len))
			last = h;
	}
	last->nlmsg_flags |= NLM_F_ACK;
	return last->nlmsg_seq;
}

/*
 * The kernel reports when all is done or undone: first a failure of the whole, then what it has to say about each
 * message, in order. If NFNL_BATCH_GENID isn't its number, it has looked at no message and says only ERESTART.
 */
int nl_transact(struct nl *n, void *messages, size_t len, struct error *err) {
	int size = 2 * NL_TRANSACTION_MAX, failed = 0;
	uint32_t first = n->seq + 1, last = nl_number(n, messages, len);

	if (setsockopt(nl_fd(n), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		return error_errno(err, errno, "set the send buffer of a netlink socket");
	int r = nl_send_all(n, messages, len, err);
	while (r >= 0) {
		ssize_t got = receive(n);
		if (got < 0)
			return error_errno(err, (int)got, "receive from a netlink socket");
		int left = (int)got;
		for (struct nlmsghdr *h = (void *)n->in; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			const char *text = NULL;
			if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_seq - first > last - first)
				continue;
			int code = ack_code(h, &text);
			if (code && !failed)
				failed = error_set(err, code, "%s", text);
			if (h->nlmsg_seq == last || code == ERESTART)
				return failed;
		}
	}
	return r;
}

static int nl_join(struct nl *n, const unsigned *groups, struct error *err) {
	for (; *groups; groups++)
		if (mnl_socket_setsockopt(n->sock, NETLINK_ADD_MEMBERSHIP, (void *)groups, sizeof(*groups)) < 0)
			return error_errno(err, errno, "join netlink group %u", *groups);
	return 0;
}

int nl_subscribe(struct nl **ret, int netns_fd, const unsigned *groups, struct error *err) {
	_nl_free_ struct nl *n = NULL;
	int r = nl_open(&n, netns_fd, err);
	if (r >= 0)
		r = nl_join(n, groups, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(n);
	return 0;
}

int nl_ignore(struct nl *subscriber, const struct nl *requester, struct error *err) {
	/* Classic BPF loads in network order, hence htonl(). */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __builtin_bswap32(requester->portid), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog prog = {.len = ARRAY_SIZE(code), .filter = code};
	if (setsockopt(nl_fd(subscriber), SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0)
		return error_errno(err, errno, "attach a filter to a netlink socket");
	return 0;
}

int nl_receive(struct nl *n, nl_handler handler, void *userdata, struct error *err) {
	for (;;) {
		ssize_t len = recv(nl_fd(n), n->in, sizeof(n->in), MSG_DONTWAIT);
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 && errno == EAGAIN)
			return 0;
		if (len < 0)
			return error_errno(err, errno, "receive from a netlink socket");
		int left = (int)len;
		for (struct nlmsghdr *h = (void *)n->in; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			int r = h->nlmsg_type < NLMSG_MIN_TYPE ? 0 : handler(h, userdata);
			if (r < 0)
				return error_errno(err, r, "handle a netlink notification");
		}
	}
}

/* -- attributes -- */

void nl_attrs(const struct nlmsghdr *h, size_t hdrlen, const struct nlattr **tb, unsigned max) {
	const struct nlattr *a;
	memset(tb, 0, (max + 1) * sizeof(*tb));
	mnl_attr_for_each(a, h, hdrlen) {
		if (mnl_attr_get_type(a) <= max)
			tb[mnl_attr_get_type(a)] = a;
	}
}

bool nl_bytes(const struct nlattr *a, void *out, size_t size) {
	if (!a || mnl_attr_get_payload_len(a) != size)
		return false;
	memcpy(out, mnl_attr_get_payload(a), size);
	return true;
}

uint32_t nl_u32(const struct nlattr *a) {
	uint32_t v = 0;
	return nl_bytes(a, &v, sizeof(v)) ? v : 0;
}

uint8_t nl_u8(const struct nlattr *a) {
	uint8_t v = 0;
	return nl_bytes(a, &v, sizeof(v)) ? v : 0;
}

static bool is_zero(const uint8_t *p, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

static void put_nest(struct nlmsghdr *h, const struct nl_field *f, const void *from) {
	struct nlattr *nest = mnl_attr_nest_start(h, f->attr);
	if (f->header)
		memset(mnl_nlmsg_put_extra_header(h, f->header), 0, f->header);
	nl_put_fields(h, f->nested, from);
	mnl_attr_nest_end(h, nest);
}

static void put_field(struct nlmsghdr *h, const struct nl_field *f, const void *member) {
	const struct addr *addr = member;
	uint16_t u16;
	switch (f->type) {
	case NL_U16_BE:
		memcpy(&u16, member, sizeof(u16));
		mnl_attr_put_u16(h, f->attr, __builtin_bswap16(u16));
		break;
	case NL_TEXT: mnl_attr_put_strz(h, f->attr, member); break;
	case NL_ADDR6:
		if (addr->family == AF_INET6)
			mnl_attr_put(h, f->attr, sizeof(addr->v6), &addr->v6);
		break;
	default: mnl_attr_put(h, f->attr, f->size, member);
	}
}

void nl_put_fields(struct nlmsghdr *h, const struct nl_field *fields, const void *from) {
	for (const struct nl_field *f = fields; f->attr; f++) {
		const uint8_t *member = (const uint8_t *)from + f->offset;
		if (f->type == NL_NEST)
			put_nest(h, f, from);
		else if (f->type == NL_U8_ALWAYS || !is_zero(member, f->size))
			put_field(h, f, member);
	}
}

static void read_attrs(const uint8_t *payload, size_t len, const struct nl_field *fields, void *to);

static void nl_read_field(const struct nlattr *a, const struct nl_field *f, void *to) {
	void *member = (uint8_t *)to + f->offset;
	const uint8_t *payload = mnl_attr_get_payload(a);
	size_t len = mnl_attr_get_payload_len(a);
	struct addr *addr = member;
	uint16_t u16;
	switch (f->type) {
	case NL_U16_BE:
		if (nl_bytes(a, &u16, sizeof(u16))) {
			u16 = __builtin_bswap16(u16);
			memcpy(member, &u16, sizeof(u16));
		}
		break;
	case NL_TEXT:
		len = MIN(len, f->size - 1);
		memcpy(member, payload, len);
		((char *)member)[len] = 0;
		break;
	case NL_ADDR6:
		if (nl_bytes(a, &addr->v6, sizeof(addr->v6)))
			addr->family = AF_INET6;
		break;
	case NL_NEST:
		if (len >= f->header)
			read_attrs(payload + f->header, len - f->header, f->nested, to);
		break;
	default: (void)nl_bytes(a, member, f->size);
	}
}

static void read_attrs(const uint8_t *payload, size_t len, const struct nl_field *fields, void *to) {
	const struct nlattr *attr; /* the macro's */
	mnl_attr_for_each_payload((const void *)payload, len) {
		for (const struct nl_field *f = fields; f->attr; f++)
			if (f->attr == mnl_attr_get_type(attr))
				nl_read_field(attr, f, to);
	}
}

void nl_read_fields(const struct nlmsghdr *h, size_t hdrlen, const struct nl_field *fields, void *to) {
	if (mnl_nlmsg_get_payload_len(h) >= hdrlen)
		read_attrs(mnl_nlmsg_get_payload_offset(h, hdrlen), mnl_nlmsg_get_payload_len(h) - MNL_ALIGN(hdrlen),
		           fields, to);
}

/* -- batches -- */

int nl_batch_init(struct nl_batch *b, struct nl *nl, nl_batch_failed failed, void *userdata, struct error *err) {
	uint8_t *buf = malloc(NL_BATCH_BYTES + NL_MSG_MAX);
	if (!buf)
		return error_oom(err);
	*b = (struct nl_batch){.nl = nl, .failed = failed, .userdata = userdata, .buf = buf};
	return 0;
}

void nl_batch_done(struct nl_batch *b) {
	free(b->buf);
	b->buf = NULL;
}

/* The last message has its final length only when the caller has finished it. */
static void close_open(struct nl_batch *b) {
	if (b->open)
		b->len += MNL_ALIGN(b->open->nlmsg_len);
	b->last = b->open ? b->open : b->last;
	b->open = NULL;
}

struct nlmsghdr *nl_batch_add(struct nl_batch *b, uint16_t type, uint16_t flags, const void *hdr, size_t len,
                              void *cookie, struct error *err) {
	close_open(b);
	if ((b->count == NL_BATCH_MSGS || b->len >= NL_BATCH_BYTES) && nl_batch_flush(b, err) < 0)
		return NULL;
	if (b->count == 0)
		b->seq0 = b->nl->seq + 1;
	b->cookies[b->count++] = cookie;
	b->open = message(b->buf + b->len, ++b->nl->seq, type, flags, hdr, len);
	return b->open;
}

/* Reads failures until the last message of the batch is acknowledged. */
static int batch_await(struct nl_batch *b, struct error *err) {
	uint32_t last = b->seq0 + b->count - 1;
	for (;;) {
		ssize_t len = receive(b->nl);
		if (len < 0)
			return error_errno(err, (int)len, "receive from a netlink socket");
		int left = (int)len;
		for (struct nlmsghdr *h = (void *)b->nl->in; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			const char *text = NULL;
			uint32_t i = h->nlmsg_seq - b->seq0;
			if (h->nlmsg_type != NLMSG_ERROR || i >= b->count)
				continue;
			int code = ack_code(h, &text);
			if (code)
				b->failed(b->cookies[i], code, text, b->userdata);
			if (h->nlmsg_seq == last)
				return 0;
		}
	}
}

int nl_batch_flush(struct nl_batch *b, struct error *err) {
	close_open(b);
	if (!b->count)
		return 0;
	/* The kernel processes the messages in order, so the acknowledgement of the last one covers all. */
	b->last->nlmsg_flags |= NLM_F_ACK;
	int r = nl_send_all(b->nl, b->buf, b->len, err);
	if (r >= 0)
		r = batch_await(b, err);
	b->sent += b->count;
	b->count = 0;
	b->len = 0;
	return r;
}
