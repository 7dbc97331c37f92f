/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"

#include <signal.h>
#include <systemd/sd-daemon.h>

int loop_new(sd_event **ret, struct error *err) {
	_cleanup_(cleanup_event) sd_event *loop = NULL;
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_errno(err, errno, "sigprocmask");
	int r = sd_event_new(&loop);
	if (r >= 0)
		r = sd_event_add_signal(loop, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(loop, NULL, SIGINT, NULL, NULL);
	if (r >= 0)
		r = sd_event_set_watchdog(loop, true);
	if (r < 0)
		return error_errno(err, r, "create the event loop");
	*ret = TAKE_PTR(loop);
	return 0;
}

int loop_run(sd_event *loop, struct error *err) {
	sd_notify(0, "READY=1");
	int r = sd_event_loop(loop);
	sd_notify(0, "STOPPING=1");
	return r < 0 ? error_errno(err, r, "event loop") : 0;
}

int loop_timer(sd_event *loop, sd_event_source **src, uint64_t delay_us, sd_event_time_handler_t handler,
               void *userdata) {
	if (!*src)
		return sd_event_add_time_relative(loop, src, CLOCK_MONOTONIC, delay_us, 1000, handler, userdata);
	int r = sd_event_source_set_time_relative(*src, delay_us);
	return r < 0 ? r : sd_event_source_set_enabled(*src, SD_EVENT_ONESHOT);
}
