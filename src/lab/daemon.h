/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The daemons that a lab runs: the control plane in the namespace `mgmt`, one agent in the default namespace of each
 * host and edge. Each leaves NAME.pid and NAME.log in the lab's directory.
 */

#include "base/buf.h"
#include "lab/lab.h"

#define LAB_ARGS_MAX 48

struct lab_daemon {
	char name[16];    /* "apiserver", "controller", "edge1", "host1": what `restart` takes */
	char program[24]; /* "nacre-apiserver" */
	char ns[LAB_NS_MAX];
	char pid_file[LAB_PATH_MAX], log[LAB_PATH_MAX];
	char metrics[LAB_PATH_MAX];   /* UNIX socket where it says how it is; "" if it has none */
	bool api;                     /* it is the API server, which says so to the operator */
	char *argv[LAB_ARGS_MAX + 1]; /* malloc'ed strings */
};
void lab_daemon_clear(struct lab_daemon *d);
#define _daemon_ _cleanup_(lab_daemon_clear)

int lab_daemons(const struct lab *lab);
/* Of these, the first ones: (etcd,) API server, controller. */
int lab_control_daemons(const struct lab *lab);
/* I from 0 to lab_daemons() - 1, in the order in which they are started. */
int lab_daemon_get(const struct lab *lab, int i, struct lab_daemon *ret, struct error *err) _must_use_;
/* -ENOENT with the list of names. */
int lab_daemon_find(const struct lab *lab, const char *name, struct lab_daemon *ret, struct error *err) _must_use_;

/* Starts it unless it runs. */
int lab_daemon_start(const struct lab_daemon *d, struct error *err) _must_use_;
/* Ends it if it runs. */
int lab_daemon_stop(const struct lab_daemon *d, struct error *err);
/* Its pid, or 0. */
pid_t lab_daemon_pid(const struct lab_daemon *d);
/* 0 if it runs and says that it is ready; else a sentence about what is the matter. */
int lab_daemon_ready(const struct lab *lab, const struct lab_daemon *d, struct error *err) _must_use_;
/* The last line of its log, "" if there is none. */
void lab_daemon_last_words(const struct lab_daemon *d, char *out, size_t size);
