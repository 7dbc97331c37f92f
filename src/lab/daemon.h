/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The daemons of a lab: the control plane in the namespace `mgmt`, and one agent in the default namespace of each
 * machine. Each has NAME.pid and NAME.log in the lab's directory.
 */

#include "base/buf.h"
#include "lab/lab.h"

#define LAB_ARGS_MAX 48

struct lab_daemon {
	char name[16];    /* "apiserver", "controller", "edge1", "lb1", "host1": the argument of `restart` */
	char program[24]; /* "nacre-apiserver" */
	char ns[LAB_NS_MAX];
	char pid_file[LAB_PATH_MAX], log[LAB_PATH_MAX];
	char metrics[LAB_PATH_MAX];   /* UNIX socket with its health and metrics; "" if it has none */
	bool api;                     /* it is the API server, whose health the operator can ask for by the API */
	char *argv[LAB_ARGS_MAX + 1]; /* malloc'ed strings */
};
void lab_daemon_clear(struct lab_daemon *d);
#define _daemon_ _cleanup_(lab_daemon_clear)

int lab_daemons(const struct lab *lab);
/* How many of these are the control plane; they come first: (etcd,) API server, controller. */
int lab_control_daemons(const struct lab *lab);
/* Fills RET for I from 0 to lab_daemons() - 1, in the order of their start. */
int lab_daemon_get(const struct lab *lab, int i, struct lab_daemon *ret, struct error *err) _must_use_;
/* -ENOENT if there is no daemon NAME; the message has the list of names. */
int lab_daemon_find(const struct lab *lab, const char *name, struct lab_daemon *ret, struct error *err) _must_use_;

/* Starts the daemon unless it is running. */
int lab_daemon_start(const struct lab_daemon *d, struct error *err) _must_use_;
/* Ends the daemon if it is running. */
int lab_daemon_stop(const struct lab_daemon *d, struct error *err);
/* The daemon's pid, or 0. */
pid_t lab_daemon_pid(const struct lab_daemon *d);
/* Returns 0 if the daemon is running and ready; else the message says what is wrong. */
int lab_daemon_ready(const struct lab *lab, const struct lab_daemon *d, struct error *err) _must_use_;
/* The last line of the daemon's log; "" if there is none. */
void lab_daemon_last_words(const struct lab_daemon *d, char *out, size_t size);
