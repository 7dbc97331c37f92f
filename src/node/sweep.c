/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Removes what is left of instances that are gone and are known only by the names of things: networks, control groups,
 * disks.
 */

#include <dirent.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "net/netns.h"
#include "node/internal.h"

#define SWEEP_MAX_MS 600000

/* NAME is the name of a namespace or a control group. */
static bool is_known_name(void *userdata, const char *name) {
	struct hypervisor *h = userdata;
	const char *id = instnet_id_of_netns(h->prefix, name);
	struct guest *i;

	/* What doesn't belong to an instance is left alone. */
	if (!id || h->keep(h->keep_userdata, NULL))
		return true;
	RB_FOREACH (i, guests, &h->all)
		if (streq(i->id, id))
			return true;
	return false;
}

static int sweep_networks(struct hypervisor *h, const char *begin, struct error *err) {
	_nl_free_ struct nl *public = NULL;
	char **names = NULL;
	size_t n = 0;
	int r = nl_open(&public, h->host.public_fd, err);

	if (r >= 0)
		r = netns_list(begin, &names, &n, err);
	if (r < 0)
		return r;
	for (size_t k = 0; k < n; k++)
		if (!is_known_name(h, names[k]))
			(void)!instnet_remove(h->prefix, instnet_id_of_netns(h->prefix, names[k]), public, NULL);
	netns_list_free(names, n);
	return 0;
}

static int sweep_in_worker(void *arg, void *result, struct error *err) {
	(void)result;
	struct hypervisor *h = arg;
	char begin[INSTNET_NAME_MAX];

	instnet_netns_begin(h->prefix, begin);
	int r = sweep_networks(h, begin, err);
	(void)!cgroups_sweep(h->cgroups, begin, is_known_name, h, NULL);
	return r;
}

/* Repeats what was asked for while one of the two jobs ran. */
static void sweep_again(struct hypervisor *h) {
	if (h->sweep || h->find_disks || !h->sweep_again)
		return;
	h->sweep_again = false;
	hypervisor_sweep(h, h->keep, h->keep_userdata);
}

static void sweep_failed(const struct error *err) {
	log_warn("some leftovers of instances that are gone were not removed; the next start of the agent tries again",
	         "error=\"%s\"", err->msg);
}

static void on_sweep(void *userdata, int r, const void *result, const struct error *err) {
	(void)result;
	struct hypervisor *h = userdata;
	struct guest *i;

	if (r < 0)
		sweep_failed(err);
	h->sweep = NULL;
	RB_FOREACH (i, guests, &h->all)
		guest_wake(i, 0);
	if (hypervisor_is_settled(h))
		h->c.ops.settled(h->c.userdata);
	sweep_again(h);
}

/*
 * Disks of instances that were deleted while this host was off; RUN_DIR has no trace of these instances. A slow file
 * system holds up only this search. Each of these instances is then removed as any other (node/look.c).
 */
#define DISKS_MAX 50 /* in one go */

struct disks {
	size_t n;
	char uid[DISKS_MAX][37];
};
_Static_assert(sizeof(struct disks) <= JOB_RESULT_MAX, "a job returns no more");

static bool is_known_uid(const struct hypervisor *h, const char *uid) {
	return hypervisor_find(h, uid) || h->keep(h->keep_userdata, uid);
}

static int find_disks_in_worker(void *arg, void *result, struct error *err) {
	const struct hypervisor *h = arg;
	struct disks *found = result;
	char id[INSTNET_ID_LEN + 1];
	_free_ char *path = strf("%s/instances", h->state_dir);
	DIR *dir = path ? opendir(path) : NULL;
	struct dirent *e;

	if (!dir)
		return path ? error_errno(err, errno, "open `%s`", path) : error_oom(err);
	while (found->n < DISKS_MAX && (e = readdir(dir)))
		if (instnet_id(e->d_name, id) && !is_known_uid(h, e->d_name))
			snprintf(found->uid[found->n++], sizeof(found->uid[0]), "%.36s", e->d_name);
	closedir(dir);
	return 0;
}

static void find_disks(struct hypervisor *h);

static void on_disks(void *userdata, int r, const void *result, const struct error *err) {
	const struct disks *found = result;
	struct hypervisor *h = userdata;

	h->find_disks = NULL;
	if (r < 0) {
		sweep_failed(err);
		sweep_again(h);
		return;
	}
	for (size_t k = 0; k < found->n; k++)
		/* The instance may have appeared meanwhile. */
		if (!is_known_uid(h, found->uid[k]))
			hypervisor_remove(h, found->uid[k], false);
	if (found->n == DISKS_MAX)
		find_disks(h);
	sweep_again(h);
}

static void find_disks(struct hypervisor *h) {
	const struct job_spec spec = {.fn = find_disks_in_worker,
	                              .arg = h,
	                              .result_size = sizeof(struct disks),
	                              .timeout_ms = SWEEP_MAX_MS,
	                              .done = on_disks,
	                              .userdata = h};

	if (job_start(h->removals, &spec, &h->find_disks, NULL) < 0)
		abort();
}

void hypervisor_sweep(struct hypervisor *h, bool (*keep)(void *userdata, const char *uid), void *userdata) {
	const struct job_spec spec = {.fn = sweep_in_worker,
	                              .arg = h,
	                              .keep = {h->host.public_fd},
	                              .n_keep = 1,
	                              .timeout_ms = SWEEP_MAX_MS,
	                              .done = on_sweep,
	                              .userdata = h};
	struct guest *i;

	RB_FOREACH (i, guests, &h->all)
		if (i->want == WANT_UNKNOWN && !keep(userdata, i->uid)) {
			i->want = WANT_NO;
			guest_wake(i, 0);
		}
	h->keep = keep;
	h->keep_userdata = userdata;
	removed_set_known(h->removed, keep, userdata);
	if (h->sweep || h->find_disks) {
		h->sweep_again = true;
		return;
	}
	if (job_start(h->jobs, &spec, &h->sweep, NULL) < 0)
		abort();
	find_disks(h);
}
