/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Frames out of the overlay whose destination is the MAC of an instance of this host: balancers send those. The program
 * of service/deliver.h sends them to the instance's device, and its table is made equal to the endpoints of this host
 * whose devices are there.
 *
 * While an Endpoint is not understood (kube/cache.h) nothing is removed from the table, since it may be its own.
 *
 * A host on which the program can't be loaded reports that, and works without shared addresses.
 */

#include "fabric/internal.h"

/* What fabric_delivery_put() needs. */
struct filling {
	struct fabric *f;
	int r;
	struct error err;
};

static void fabric_delivery_put(const struct mac *mac, int index, void *userdata) {
	struct filling *filling = userdata;
	struct error err = {0};
	int r = deliver_put(filling->f->deliver, mac, index, &err);
	/* If there is no room for one, the others work. */
	if (r < 0 && filling->r >= 0) {
		filling->r = r;
		filling->err = err;
	}
}

void fabric_delivery_look(struct fabric *f) {
	struct filling filling = {.f = f};
	struct error err = {0};
	int r = 0;
	if (!f->c.device || !f->started)
		return;
	if (!f->deliver)
		r = deliver_open(&f->deliver, f->underlay.public_fd, OVERLAY_DEVICE, &err);
	if (r >= 0) {
		deliver_begin(f->deliver);
		overlay_foreach_local(f->overlay, fabric_delivery_put, &filling);
		if (fabric_endpoints_not_understood(f) == 0)
			r = deliver_end(f->deliver, &err);
	}
	if (r >= 0)
		r = deliver_attach(f->deliver, &err);
	if (r >= 0 && filling.r < 0) {
		r = filling.r;
		err = filling.err;
	}
	if (r < 0)
		error_prefix(&err, "delivery of frames to instances");
	fabric_say(f, SUBJECT_DELIVERY, r < 0 ? &err : NULL);
}
