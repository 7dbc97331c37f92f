/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Inside the model of FRR's configuration: frrconf.c keeps lines, frrconf-bgp.c makes them, frrconf-diff.c compares. */

#include "base/tree.h"
#include "net/frrconf.h"

RB_HEAD(frrconf_tree, frrconf_line);
TAILQ_HEAD(frrconf_lines, frrconf_line);

struct frrconf_line {
	const char *text;            /* without indentation; "" in the root of a daemon's lines */
	struct frrconf_line *parent; /* its context; NULL: it is the root */
	struct frrconf_lines lines;  /* what is in this context, in order */
	struct frrconf_tree tree;    /* the same by text */
	TAILQ_ENTRY(frrconf_line) link;
	RB_ENTRY(frrconf_line) node;
};

struct frrconf {
	struct frrconf_line *root[FRRCONF_DAEMONS];
	struct frrconf_line *bgp;         /* "router bgp …" of frrconf_bgp() */
	struct frrconf_line *ipv4, *ipv6; /* address families in it that something was said about */
	size_t n;                         /* lines */
	struct error err;                 /* the first */
};

int frrconf_line_cmp(const struct frrconf_line *a, const struct frrconf_line *b);
RB_PROTOTYPE(frrconf_tree, frrconf_line, node, frrconf_line_cmp)

/* Keeps the error, unless there is one already. */
void frrconf_fail(struct frrconf *c, int code, const char *fmt, ...) _printf_(3, 4);

/*
 * The line in context PARENT, at its end or before BEFORE (NULL: none); the one that is there already if there is one.
 * NULL after a failure, or if C had failed before.
 */
struct frrconf_line *frrconf_add(struct frrconf *c, struct frrconf_line *parent, struct frrconf_line *before,
                                 const char *fmt, ...) _printf_(4, 5);

/* NULL: there is none. */
const struct frrconf_line *frrconf_find(const struct frrconf_line *parent, const char *text);
/* The first line, by text, that begins with PREFIX; the others follow by RB_NEXT(). */
const struct frrconf_line *frrconf_find_prefix(const struct frrconf_line *parent, const char *prefix);

/* The line in context BGP that makes the neighbor or group whose lines begin with PREFIX ("neighbor NAME "), or NULL.
 * FRR forgets all lines of a neighbor when that one is taken back. */
const struct frrconf_line *frrconf_find_neighbor(const struct frrconf_line *bgp, const char *prefix);
