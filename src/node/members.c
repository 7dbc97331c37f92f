/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Members of groups come and go (node/internal.h). The process that changes the sets is a job that is started while
 * this process is small, and again if it should end: the later ones are copies of this process as it is then, and
 * keep its memory alive as long as they live. The process gets a guest's netfilter socket with each request. While a
 * request is under way for a guest, the guest is not looked at. What can't be done so, or fails, is left to a look.
 */

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/util.h"
#include "net/netns.h"
#include "net/nftset.h"
#include "net/nl.h"
#include "node/internal.h"

#define MESSAGES_MAX 65536
#define ANSWER_US    (5 * USEC_PER_SEC)  /* without an answer for so long the process is ended */
#define AGAIN_US     (10 * USEC_PER_SEC) /* from its end to the next one */

struct members {
	struct hypervisor *h;
	struct jobs *jobs;
	struct job *job; /* NULL: it doesn't run */
	int near, far;   /* a socket pair; the process has FAR */
	sd_event_source *io, *timer;
	uint64_t number; /* of the last request */
	size_t waiting;  /* requests that are not answered yet */
};

struct members_request {
	char uid[37], table[32];
	uint64_t number;
	uint32_t genid; /* as in the messages: nothing is changed if the namespace has another one */
	uint32_t n;     /* messages that follow this header */
};

struct members_answer {
	char uid[37];
	uint64_t number;
	uint32_t genid; /* after the change */
	int r;
};

/* ---- the process ---- */

static int members_commit(struct nl *nl, const struct members_request *q, const char *messages, size_t len,
                          uint32_t *ret_genid, struct error *err) {
	struct nftset_batch b = {.table = q->table, .messages.max = NL_TRANSACTION_MAX, .n = q->n};

	buf_add(&b.messages, messages, len);
	int r = nftset_commit(nl, &b, err);
	if (r >= 0)
		r = nftset_genid(nl, ret_genid, err);
	if (r >= 0 && *ret_genid != nftset_genid_after(q->genid))
		r = error_set(err, ESTALE, "somebody else has changed nftables");
	nftset_batch_done(&b);
	return r;
}

/* Receives a request. Returns the length of its messages, or -1: there won't be one any more. */
static ssize_t members_receive(int fd, struct members_request *q, char *messages, int *ret_socket) {
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov[] = {{q, sizeof(*q)}, {messages, MESSAGES_MAX}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t len;

	while ((len = recvmsg(fd, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		;
	const struct cmsghdr *c = len > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (len < (ssize_t)sizeof(*q) || !c || c->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(ret_socket, CMSG_DATA(c), sizeof(int));
	return len - (ssize_t)sizeof(*q);
}

static int members_in_worker(void *arg, _unused_ void *result, struct error *err) {
	const struct members *m = arg;
	static char messages[MESSAGES_MAX];
	struct members_request q;
	ssize_t len;
	int fd;

	while ((len = members_receive(m->far, &q, messages, &fd)) >= 0) {
		struct members_answer a = {.number = q.number};
		_nl_free_ struct nl *nl = NULL;
		memcpy(a.uid, q.uid, sizeof(a.uid));
		a.r = nl_adopt(&nl, fd, err);
		if (a.r >= 0)
			a.r = members_commit(nl, &q, messages, (size_t)len, &a.genid, err);
		if (send(m->far, &a, sizeof(a), 0) < 0)
			break;
	}
	return error_set(err, EPIPE, "the agent sends no more requests");
}

/* ---- the loop's side ---- */

static int members_on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void members_arm(struct members *m, uint64_t delay_us) {
	/* After the answers: one that has come in time is not too late. */
	if (loop_timer(m->h->c.loop, &m->timer, delay_us, members_on_timer, m) < 0 ||
	    sd_event_source_set_priority(m->timer, SD_EVENT_PRIORITY_NORMAL + 1) < 0)
		abort();
}

/* The request of I is over: R and GENID are its answer. */
static void members_answered(struct guest *i, int r, uint32_t genid) {
	bool again = i->again, more = i->more;

	i->following = 0;
	i->again = i->more = false;
	if (r >= 0) {
		struct instnet_state now = i->network;
		now.firewall = i->followed;
		now.genid = genid;
		guest_set_network(i, &now);
		i->h->members_sent++;
	} else {
		i->h->members_refused++;
	}
	guest_wake_quietly(i);
	if (r < 0 || again)
		guest_wake(i, 0);
	else if (more)
		members_changed(i);
}

/* There is room for requests again. */
static void members_send_unsent(struct members *m) {
	struct guest *i;

	while ((i = TAILQ_FIRST(&m->h->unsent))) {
		members_drop(i);
		members_changed(i);
		if (i->unsent)
			return;
	}
}

static int members_on_answer(_unused_ sd_event_source *s, int fd, _unused_ uint32_t revents, void *userdata) {
	struct members *m = userdata;
	struct members_answer a;

	while (recv(fd, &a, sizeof(a), 0) == (ssize_t)sizeof(a)) {
		struct guest *i = hypervisor_find(m->h, a.uid);
		if (--m->waiting)
			members_arm(m, ANSWER_US);
		else
			m->timer = sd_event_source_disable_unref(m->timer);
		if (i && i->following == a.number)
			members_answered(i, a.r, a.genid);
	}
	members_send_unsent(m);
	return 0;
}

static void members_close(struct members *m) {
	m->io = sd_event_source_disable_unref(m->io);
	m->near = safe_close(m->near);
	m->far = safe_close(m->far);
}

static void members_ended(void *userdata, _unused_ int r, _unused_ const void *result,
                          _unused_ const struct error *err) {
	struct members *m = userdata;
	struct guest *i;

	m->job = NULL;
	m->waiting = 0;
	members_close(m);
	members_arm(m, AGAIN_US);
	RB_FOREACH (i, guests, &m->h->all)
		if (i->following)
			members_answered(i, -EPIPE, 0);
	members_send_unsent(m);
}

static int members_start(struct members *m, struct error *err) {
	int p[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
		return error_errno(err, errno, "socketpair");
	m->near = p[0];
	m->far = p[1];
	if (fcntl(m->near, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, errno, "fcntl");
	int r = sd_event_add_io(m->h->c.loop, &m->io, m->near, EPOLLIN, members_on_answer, m);
	if (r < 0)
		return error_errno(err, r, "watch the process that changes sets");
	const struct job_spec spec = {
		.fn = members_in_worker, .arg = m, .keep = {m->far}, .n_keep = 1, .done = members_ended, .userdata = m};
	return job_start(m->jobs, &spec, &m->job, err);
}

static int members_on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct members *m = userdata;
	struct error ignored;

	if (m->job) {
		job_cancel(m->job);
	} else if (members_start(m, &ignored) < 0) {
		members_close(m);
		members_arm(m, AGAIN_US);
	}
	return 0;
}

int members_new(struct members **ret, struct hypervisor *h, struct error *err) {
	struct members *m = calloc(1, sizeof(*m));

	if (!m)
		return error_oom(err);
	*m = (struct members){.h = h, .near = -1, .far = -1};
	int r = jobs_new(&m->jobs, h->c.loop, 1, SD_EVENT_PRIORITY_NORMAL, err);
	if (r >= 0)
		r = members_start(m, err);
	if (r < 0)
		members_free(m);
	else
		*ret = m;
	return r;
}

struct members *members_free(struct members *m) {
	if (!m)
		return NULL;
	jobs_free(m->jobs);
	members_close(m);
	sd_event_source_disable_unref(m->timer);
	free(m);
	return NULL;
}

/* ---- requests ---- */

static bool members_open_socket(struct guest *i) {
	_close_ int fd = -1;
	struct error ignored;

	return i->netfilter ||
	       (netns_open(i->name, &fd, &ignored) >= 0 && nl_open_netfilter(&i->netfilter, fd, &ignored) >= 0);
}

/* False: it can't be sent. If only the socket is full at present, it will be sent later. */
static bool members_send(struct guest *i, const struct nftset_batch *b) {
	struct members *m = i->h->members;
	struct members_request q = {.number = m->number + 1, .genid = i->network.genid, .n = (uint32_t)b->n};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov[] = {{&q, sizeof(q)}, {b->messages.data, b->messages.len}};
	const struct msghdr msg = {
		.msg_iov = iov, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof(control)};
	int fd = nl_fd(i->netfilter);

	memcpy(q.uid, i->uid, sizeof(q.uid));
	snprintf(q.table, sizeof(q.table), "%s", b->table);
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	*c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(m->near, &msg, MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN || !m->waiting)
			return false;
		i->unsent = true;
		TAILQ_INSERT_TAIL(&i->h->unsent, i, unsent_entry);
		return true;
	}
	i->following = ++m->number;
	if (!m->waiting++)
		members_arm(m, ANSWER_US);
	return true;
}

/* False: a look has to do it. */
static bool members_follow(struct guest *i) {
	struct nftset_batch b = {.genid = i->network.genid, .messages.max = MESSAGES_MAX};
	const struct job *process = i->h->members->job;
	struct firewalls_attached a;
	struct error ignored;

	if (!process || !job_is_running(process) || i->job || i->h->sweep || i->going || i->ended || i->failures ||
	    !i->network.genid)
		return false;
	guest_firewalls(i, &a);
	if (firewall_members(&i->spec.net, &a.is, &i->network.firewall, &b, &i->followed, &ignored) != 0)
		return false;
	if (!b.n)
		i->network.firewall = i->followed;
	bool done = !b.n || (members_open_socket(i) && members_send(i, &b));
	nftset_batch_done(&b);
	return done;
}

void members_changed(struct guest *i) {
	if (i->following)
		i->more = true;
	else if (!i->unsent && !members_follow(i))
		guest_wake(i, 0);
}

void members_drop(struct guest *i) {
	if (!i->unsent)
		return;
	i->unsent = false;
	TAILQ_REMOVE(&i->h->unsent, i, unsent_entry);
}
