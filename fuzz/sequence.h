/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A text that describes requests, one in each line: `VERB USER KIND NAMESPACE NAME OPTION BODY`. All parts but the body
 * are single characters without blanks between them: "ctira. {$t$m}$s}" creates, as the tenant, Instance `a` in
 * namespace default. Any byte is valid at each place, so that every mutation of a text by the fuzzer is requests again.
 * There are few names, so that many requests use the same objects.
 *
 *     verb       g get, l list, w watch from the start, W watch from an old version on, c create, u update, p JSON
 *                patch, m merge patch, s strategic merge patch, y apply, d delete, D deletecollection, and of
 *                subresources U update status, M merge-patch status, S update scale, C merge-patch scale, G get scale;
 *                r review, o another path, t a second passes, R watches are read
 *     user       a admin, t tenant (admin of namespace default), h agent of host h1, e agent of an edge, b agent of a
 *                balancer, - nobody
 *     kind       see the table in sequence.c
 *     namespace  r default, the tenant's; b nacre-system; * none
 *     name       a, b, c, d, h (h1), p (i-x), q (host-h1), n (default)
 *     option     see the table in sequence.c
 *
 * In the body `$` and a letter stand for values that a client would know:
 *
 *     $t  "apiVersion":"…","kind":"…",      $s  ,"spec":{…}: what makes the kind valid
 *     $m  "metadata":{"name":"…"            (left open)
 *     $g  the stored object, {} if none     $v  its resourceVersion    $V  an old one     $u  its uid
 *     $xKN  an owner reference to the object N of kind K, in the same namespace
 *     $n  the end of a line
 *     $[N … $]  repeats the text between, 2^(N - 'a') times; $# inside is the number of earlier repetitions
 */

#include <stdbool.h>
#include <stddef.h>

#include "apiserver/server.h"

struct step {
	char verb;
	char option;
	unsigned kind;
	const char *ns, *name;
	const char *selector;    /* the query's selectors of labels and fields, "" if it has none */
	struct request *request; /* NULL: the line is no request (t, R) */
};

/* Parses the line [LINE, LINE + N). The caller owns the request. */
void sequence_step(const struct server *s, const char *line, size_t n, int64_t old_version, struct step *ret);

/* A request by the administrator, without a body. */
struct request *sequence_ask(const char *method, const char *target);
