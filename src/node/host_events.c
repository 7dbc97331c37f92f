/* SPDX-License-Identifier: Apache-2.0 */

/* What happens without the agent's doing: somebody removes devices of instances, guests make files grow. */

#include <net/if.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/util.h"
#include "net/link.h"
#include "node/internal.h"
#include "node/room.h"

#define ROOM_US     USEC_PER_SEC /* between checks of what guests store */
#define ROOM_MAX_MS 60000

static int on_link(const struct nlmsghdr *m, void *userdata) {
	struct hypervisor *h = userdata;
	struct guest *i;
	struct link l;
	const char *id;

	if (m->nlmsg_type != RTM_NEWLINK && m->nlmsg_type != RTM_DELLINK)
		return 0;
	link_decode(m, &l);
	id = instnet_id_of_device(l.name);
	if (!id || (m->nlmsg_type == RTM_NEWLINK && (l.flags & IFF_UP)))
		return 0;
	RB_FOREACH (i, guests, &h->all)
		if (i->want == WANT_YES && streq(id, i->id))
			guest_wake(i, 0);
	return 0;
}

static int on_links_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
	(void)s;
	(void)fd;
	(void)revents;
	struct hypervisor *h = userdata;
	struct guest *i;

	/* If notifications were lost (-ENOBUFS), looks at all guests. */
	if (nl_receive(h->links, on_link, h, NULL) < 0)
		RB_FOREACH (i, guests, &h->all)
			if (i->want == WANT_YES)
				guest_wake(i, 0);
	return 0;
}

/* Machines whose files have grown too much. If there are more, the next look finds them. */
struct grown {
	size_t n;
	struct {
		char uid[37];
		pid_t pid;
	} v[32];
};

static int room_in_worker(void *arg, void *result, _unused_ struct error *err) {
	struct hypervisor *h = arg;
	struct grown *found = result;
	struct guest *i;

	RB_FOREACH (i, guests, &h->all)
		if (i->pid && i->has_vars && found->n < ARRAY_SIZE(found->v) &&
		    room_check_vars(i->state_dir, NULL) == -EFBIG) {
			memcpy(found->v[found->n].uid, i->uid, sizeof(i->uid));
			found->v[found->n++].pid = i->pid;
		}
	return 0;
}

static int on_room(sd_event_source *s, uint64_t usec, void *userdata);

static void room_again(struct hypervisor *h) {
	if (loop_timer(h->c.loop, &h->room_timer, ROOM_US, on_room, h) < 0)
		abort();
}

/* Kills these machines; the look after their end reports why. */
static void on_room_looked(void *userdata, _unused_ int r, const void *result, _unused_ const struct error *err) {
	struct hypervisor *h = userdata;
	const struct grown *found = result;

	for (size_t k = 0; found && k < found->n; k++) {
		struct guest *i = hypervisor_find(h, found->v[k].uid);
		if (i && i->pid == found->v[k].pid)
			guest_kill(i);
	}
	room_again(h);
}

static int on_room(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	struct hypervisor *h = userdata;
	const struct job_spec spec = {.fn = room_in_worker,
	                              .arg = h,
	                              .result_size = sizeof(struct grown),
	                              .timeout_ms = ROOM_MAX_MS,
	                              .done = on_room_looked,
	                              .userdata = h};
	bool any = false;
	struct guest *i;
	struct job *job;

	RB_FOREACH (i, guests, &h->all)
		any |= i->pid && i->has_vars;
	if (!any || job_start(h->jobs, &spec, &job, NULL) < 0)
		room_again(h);
	return 0;
}

int host_events_start(struct hypervisor *h, struct error *err) {
	int r = nl_subscribe(&h->links, h->c.public_fd, (const unsigned[]){RTNLGRP_LINK, 0}, err);

	if (r < 0)
		return r;
	r = sd_event_add_io(h->c.loop, &h->links_io, nl_fd(h->links), EPOLLIN, on_links_io, h);
	if (r < 0)
		return error_errno(err, r, "watch the devices");
	r = loop_timer(h->c.loop, &h->room_timer, 0, on_room, h);
	return r < 0 ? error_errno(err, r, "timer") : 0;
}

void host_events_stop(struct hypervisor *h) {
	sd_event_source_disable_unref(h->links_io);
	sd_event_source_disable_unref(h->room_timer);
	nl_free(h->links);
}
