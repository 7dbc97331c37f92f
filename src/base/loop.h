/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The event loop of every daemon is sd-event (sd-event(3)); this adds what each of
 * them does alike. Single-threaded: all callbacks run on the thread of the loop.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

DEFINE_CLEANUP(event, sd_event *, sd_event_unref)
DEFINE_CLEANUP(source, sd_event_source *, sd_event_source_disable_unref)

/*
 * A new loop that ends (sd_event_loop() returns 0) on SIGTERM or SIGINT, has SIGPIPE ignored,
 * feeds systemd's watchdog when asked to, and handles SIGCHLD as sd-event wants it (blocked).
 */
int loop_new(sd_event **ret, struct error *err) _must_use_;

/* Tells systemd READY=1 (a no-op elsewhere), runs until the end, tells STOPPING=1. Negative errno on failure. */
int loop_run(sd_event *loop, struct error *err) _must_use_;

/*
 * A one-shot timer kept in *SRC: (re)arms it to call HANDLER(source, usec, USERDATA) after DELAY_US.
 * *SRC must be NULL at first; the caller frees it with sd_event_source_disable_unref().
 */
int loop_timer(sd_event *loop, sd_event_source **src, uint64_t delay_us, sd_event_time_handler_t handler,
               void *userdata) _must_use_;
