/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Internals of the model of FRR's configuration: frrconf.c stores lines, frrconf-bgp.c makes them, frrconf-diff.c
 * compares models. */

#include "base/tree.h"
#include "net/frrconf.h"

RB_HEAD(frrconf_tree, frrconf_line);
TAILQ_HEAD(frrconf_lines, frrconf_line);

struct frrconf_line {
	const char *text;            /* without indentation; "" in the root of a daemon's lines */
	struct frrconf_line *parent; /* its context; NULL: this line is the root */
	struct frrconf_lines lines;  /* the lines in this context, in order */
	struct frrconf_tree tree;    /* the same lines, sorted by text */
	TAILQ_ENTRY(frrconf_line) link;
	RB_ENTRY(frrconf_line) node;
};

struct frrconf {
	struct frrconf_line *root[FRRCONF_DAEMONS];
	struct frrconf_line *bgp;         /* "router bgp …" of frrconf_bgp() */
	struct frrconf_line *ipv4, *ipv6; /* its address families that have statements */
	size_t n;                         /* number of lines */
	struct error err;                 /* the first error */
};

int frrconf_line_cmp(const struct frrconf_line *a, const struct frrconf_line *b);
RB_PROTOTYPE(frrconf_tree, frrconf_line, node, frrconf_line_cmp)

/* Stores the error, unless there is one already. */
void frrconf_fail(struct frrconf *c, int code, const char *fmt, ...) _printf_(3, 4);

/*
 * Returns the line in context PARENT. If it does not exist yet, it is added at the end or before BEFORE (NULL: at the
 * end). NULL after a failure, or if C had failed before.
 */
struct frrconf_line *frrconf_add(struct frrconf *c, struct frrconf_line *parent, struct frrconf_line *before,
                                 const char *fmt, ...) _printf_(4, 5);

/* NULL if there is no such line. */
const struct frrconf_line *frrconf_find(const struct frrconf_line *parent, const char *text);
/* The first line, by text, that begins with PREFIX; the others follow by RB_NEXT(). */
const struct frrconf_line *frrconf_find_prefix(const struct frrconf_line *parent, const char *prefix);

#define FRRCONF_NEIGHBOR      "neighbor "
#define FRRCONF_NEIGHBOR_SIZE (sizeof(FRRCONF_NEIGHBOR) + FRRCONF_NAME_MAX + 1)
/* Writes "neighbor NAME " to OUT, with which all lines of the neighbor or group begin. False if L is not such a line.
 */
bool frrconf_neighbor_prefix(const struct frrconf_line *l, char out[static FRRCONF_NEIGHBOR_SIZE]);

/* The line in context BGP that creates the neighbor or group whose lines begin with PREFIX ("neighbor NAME "), or NULL.
 * When that line is removed, FRR forgets all lines of the neighbor. */
const struct frrconf_line *frrconf_find_neighbor(const struct frrconf_line *bgp, const char *prefix);
