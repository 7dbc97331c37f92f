/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whether a namespace has default routes learnt by BGP: those exist exactly while a session is established on which
 * one was received, and the kernel tells at once when they come and go, whatever became of FRR.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/error.h"

struct defaults {
	bool v4, v6;
};

struct default_watch;

/* Calls CHANGED from the loop whenever the answer differs from before, first with what is there at the start. */
int default_watch_new(struct default_watch **ret, sd_event *loop, int netns_fd,
                      void (*changed)(const struct defaults *now, void *userdata), void *userdata,
                      struct error *err) _must_use_;
struct default_watch *default_watch_free(struct default_watch *w);
