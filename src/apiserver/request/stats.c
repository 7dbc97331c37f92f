/* SPDX-License-Identifier: Apache-2.0 */
#include "apiserver/request/stats.h"

#include "base/metrics.h"
#include "base/util.h"

#define CLASSES 4 /* 2xx to 5xx */

static struct metric requests[VERBS_COUNT][CLASSES], seconds[VERBS_COUNT];
static struct metric refused[LIMITS_COUNT];
static char limit_labels[LIMITS_COUNT][32];
static char labels[VERBS_COUNT][CLASSES][64], verb_labels[VERBS_COUNT][32];
static struct metric commits = METRIC_COUNTER("nacre_apiserver_commits_total", "Transactions written.");
static struct metric changes =
	METRIC_COUNTER("nacre_apiserver_changes_total", "Changes written; divided by commits: the size of a batch.");
static struct metric failures = METRIC_COUNTER("nacre_apiserver_commit_failures_total", "Transactions that failed.");
static struct metric commit_seconds = {.name = "nacre_apiserver_commit_seconds_total",
                                       .help = "Time spent writing transactions.",
                                       .type = "counter",
                                       .scale = 1e-9};
static struct metric cpu_seconds[WORKS_COUNT];
static char work_labels[WORKS_COUNT][32];
static struct metric handshakes[2];
static struct metric longest = {.name = "nacre_apiserver_longest_turn_cpu_seconds",
                                .help = "The longest turn of the loop, in processor time.",
                                .type = "gauge",
                                .scale = 1e-9};
static struct metric late = METRIC_GAUGE("nacre_apiserver_watches_late",
                                         "Watches that wait because their user has used up his processor time.");
static struct metric watches = METRIC_GAUGE("nacre_apiserver_watches", "Watches open.");
static struct metric dropped = METRIC_COUNTER("nacre_apiserver_audit_dropped_total",
                                              "Lines of the audit log that were dropped because its queue was full.");
static struct metric objects = METRIC_GAUGE("nacre_apiserver_objects", "Objects stored.");

void stats_register(void) {
	for (unsigned v = 0; v < VERBS_COUNT; v++)
		for (unsigned c = 0; c < CLASSES; c++) {
			snprintf(labels[v][c], sizeof(labels[v][c]), "verb=\"%s\",code=\"%uxx\"", verb_name(v), c + 2);
			requests[v][c] = (struct metric){.name = "nacre_apiserver_requests_total",
			                                 .help = "Requests answered.",
			                                 .type = "counter",
			                                 .labels = labels[v][c]};
			metric_register(&requests[v][c]);
		}
	for (unsigned v = 0; v < VERBS_COUNT; v++) {
		snprintf(verb_labels[v], sizeof(verb_labels[v]), "verb=\"%s\"", verb_name(v));
		seconds[v] = (struct metric){.name = "nacre_apiserver_request_seconds_total",
		                             .help = "Time from the request line to the answer.",
		                             .type = "counter",
		                             .labels = verb_labels[v],
		                             .scale = 1e-9};
		metric_register(&seconds[v]);
	}
	for (unsigned l = 0; l < LIMITS_COUNT; l++) {
		snprintf(limit_labels[l], sizeof(limit_labels[l]), "limit=\"%s\"", limit_name(l));
		refused[l] = (struct metric){.name = "nacre_apiserver_refused_total",
		                             .help = "Requests refused (429) and connections closed, by limit.",
		                             .type = "counter",
		                             .labels = limit_labels[l]};
		metric_register(&refused[l]);
	}
	for (unsigned w = 0; w < WORKS_COUNT; w++) {
		snprintf(work_labels[w], sizeof(work_labels[w]), "work=\"%s\"", work_name(w));
		cpu_seconds[w] = (struct metric){.name = "nacre_apiserver_charged_cpu_seconds_total",
		                                 .help = "Processor time charged to users and addresses, by kind of "
		                                         "work.",
		                                 .type = "counter",
		                                 .labels = work_labels[w],
		                                 .scale = 1e-9};
		metric_register(&cpu_seconds[w]);
	}
	for (int user = 0; user < 2; user++) {
		handshakes[user] = (struct metric){.name = "nacre_apiserver_handshakes_total",
		                                   .help = "Connections with TLS, by who is charged for the handshake.",
		                                   .type = "counter",
		                                   .labels = user ? "charged=\"user\"" : "charged=\"address\""};
		metric_register(&handshakes[user]);
	}
	struct metric *const rest[] = {&commits, &changes, &failures, &commit_seconds, &watches,
	                               &objects, &dropped, &late,     &longest};
	for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
		metric_register(rest[i]);
}

void stats_request(const struct request *r) {
	unsigned class = r->reply.code / 100;
	if (class < 2 || class > 5)
		return;
	metric_add(&requests[r->route.verb][class - 2], 1);
	metric_add(&seconds[r->route.verb], (int64_t)(now_monotonic_ns() - r->start_ns));
}

void stats_commit(size_t n, uint64_t took_ns, bool ok) {
	metric_add(ok ? &commits : &failures, 1);
	metric_add(&changes, ok ? (int64_t)n : 0);
	metric_add(&commit_seconds, (int64_t)took_ns);
}

void stats_audit_dropped(void) {
	metric_add(&dropped, 1);
}

void stats_refused(enum limit what) {
	metric_add(&refused[what], 1);
}

void stats_cpu(enum work what, uint64_t ns) {
	metric_add(&cpu_seconds[what], (int64_t)ns);
}

void stats_handshake(bool user) {
	metric_add(&handshakes[user], 1);
}

void stats_turn(uint64_t ns) {
	static uint64_t most;
	if (ns <= most)
		return;
	metric_add(&longest, (int64_t)(ns - most));
	most = ns;
}

void stats_late(int change) {
	metric_add(&late, change);
}

void stats_watch(int change) {
	metric_add(&watches, change);
}

void stats_objects(int change) {
	metric_add(&objects, change);
}
