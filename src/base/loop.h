/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The event loop of every daemon is sd-event(3). This file has what all daemons do alike. A loop has one thread: all
 * callbacks run on it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

DEFINE_CLEANUP(event, sd_event *, sd_event_unref)
DEFINE_CLEANUP(source, sd_event_source *, sd_event_source_disable_unref)

/*
 * A new loop. It ends (sd_event_loop() returns 0) on SIGTERM or SIGINT, ignores SIGPIPE, feeds systemd's watchdog if
 * systemd asks for it, and blocks SIGCHLD, as sd-event needs.
 */
int loop_new(sd_event **ret, struct error *err) _must_use_;

/* Tells systemd READY=1 (does nothing without systemd), runs until the loop ends, then tells STOPPING=1. Negative errno
 * on failure. */
int loop_run(sd_event *loop, struct error *err) _must_use_;

/*
 * A one-shot timer in *SRC: calls HANDLER(source, usec, USERDATA) after DELAY_US microseconds; arms it again if it
 * exists. *SRC must be NULL at first; the caller frees it with sd_event_source_disable_unref().
 */
int loop_timer(sd_event *loop, sd_event_source **src, uint64_t delay_us, sd_event_time_handler_t handler,
               void *userdata) _must_use_;
