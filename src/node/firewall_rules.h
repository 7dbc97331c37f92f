/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The table of an instance's firewall as text for nft(8), and the names in it (node/firewall_rules.c). */

#include "base/buf.h"
#include "node/firewall_plan.h"

/*
 * Two names, which are used in turn, so that no packet is lost on its way. Three transactions replace a table: the new
 * one is loaded, for its maps of intervals are empty until the kernel has committed them all; it takes the old one's
 * place; and the old one is deleted, for a packet that is on its way through it needs its sets.
 */
#define FIREWALL_TABLES   2
#define FIREWALL_IN_FORCE "in_force" /* a set without elements that only the table in force has */
extern const char *const firewall_tables[FIREWALL_TABLES];

#define FIREWALL_NAME_MAX 32
#define FIREWALL_DROP_MS  300000             /* a flow that was dropped is remembered so long after its last packet */
#define FIREWALL_TEXT_MAX ((size_t)64 << 20) /* bytes: about two million addresses of members */

/*
 * Appends commands that make the table number TABLE, which no packet meets yet. GENERATION is the mark of connections
 * that it allows; not 0.
 */
void firewall_rules(const struct firewall_plan *p, const struct groups *groups, size_t table, uint32_t generation,
                    struct buf *b);
/* Appends commands that put this table in force. REPLACES: instead of the other one, of which only the rules go. */
void firewall_rules_switch(const struct firewall_plan *p, size_t table, bool replaces, struct buf *b);
/* Appends commands that delete the table, if there is one. */
void firewall_rules_delete(size_t table, struct buf *b);

/* The sets that hold an element of a group: one, or for a slice two. The second one is for identifiers of ICMP. */
size_t firewall_sets_of(size_t group, const struct group_element *e, char out[static 2][FIREWALL_NAME_MAX]);
