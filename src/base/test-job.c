/* SPDX-License-Identifier: Apache-2.0 */

/* Worker processes: their results arrive, and nothing of them is left, however they end. */

#include "base/testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/job.h"
#include "base/util.h"

static struct error error;
static sd_event *loop;
static struct jobs *jobs;

/* Shared with the workers. */
static struct shared {
	volatile pid_t worker, child;
	volatile int started;
	volatile int running, most;
	volatile int order[64];
} * shared;

/* What `done` got. */
static struct outcome {
	int n, r, result;
	bool has_result;
	struct error err;
} outcome[64];

static void on_done(void *userdata, int r, const void *result, const struct error *err) {
	struct outcome *o = userdata;

	o->n++;
	o->r = r;
	o->has_result = result != NULL;
	if (result)
		memcpy(&o->result, result, sizeof(o->result));
	o->err = *err;
}

static int fds(void) {
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

#define POOL 3

static int fds_before;

static int setup(void **state) {
	(void)state;
	memset(outcome, 0, sizeof(outcome));
	memset(shared, 0, sizeof(*shared));
	if (sd_event_new(&loop) < 0 || jobs_new(&jobs, loop, POOL, SD_EVENT_PRIORITY_NORMAL, &error) < 0)
		return -1;
	/* sd-event opens its timer descriptors with the first timer. */
	sd_event_source *timer = NULL;
	int r = loop_timer(loop, &timer, 0, NULL, NULL);
	sd_event_source_disable_unref(timer);
	fds_before = fds();
	return r;
}

/* After every test no child is left, dead or alive, and no descriptor. */
static int teardown(void **state) {
	(void)state;
	int now = fds();
	jobs = jobs_free(jobs);
	loop = sd_event_unref(loop);
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
		print_error("a child is left\n");
		return -1;
	}
	if (now != fds_before) {
		print_error("there are %d descriptors, and were %d\n", now, fds_before);
		return -1;
	}
	return 0;
}

static struct job *start(int n, int (*fn)(void *, void *, struct error *), void *arg, uint32_t timeout_ms) {
	const struct job_spec spec = {.fn = fn,
	                              .arg = arg,
	                              .result_size = sizeof(int),
	                              .timeout_ms = timeout_ms,
	                              .done = on_done,
	                              .userdata = &outcome[n]};
	struct job *job = NULL;

	OK(job_start(jobs, &spec, &job, &error));
	assert_int_equal(outcome[n].n, 0);
	return job;
}

/* Waits at most a minute. */
#define RUN_UNTIL(condition)                                           \
	do {                                                           \
		uint64_t end = now_monotonic_ns() + 60 * NSEC_PER_SEC; \
		while (!(condition) && now_monotonic_ns() < end)       \
			assert_true(sd_event_run(loop, 10000) >= 0);   \
		assert_true(condition);                                \
	} while (0)

/* True if the process was killed and its parent has reaped it. */
static bool is_gone(pid_t pid) {
	char path[64], text[256] = "";

	if (kill(pid, 0) < 0)
		return true;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	return n <= 0 || strstr(text, ") Z") != NULL;
}

static int answer(void *arg, void *result, _unused_ struct error *err) {
	*(int *)result = *(int *)arg + 1;
	++*(int *)arg;
	return 0;
}

static void a_result_comes_back(void **state) {
	(void)state;
	int arg = 41;

	start(0, answer, &arg, 60000);
	RUN_UNTIL(outcome[0].n);
	assert_int_equal(outcome[0].r, 0);
	assert_true(outcome[0].has_result);
	assert_int_equal(outcome[0].result, 42);
	/* The worker's memory is its own. */
	assert_int_equal(arg, 41);
}

static int fail_with_words(_unused_ void *arg, void *result, struct error *err) {
	*(int *)result = 7;
	return error_set(err, ENOSPC, "no room for it");
}

static void an_error_comes_back(void **state) {
	(void)state;
	start(0, fail_with_words, NULL, 60000);
	RUN_UNTIL(outcome[0].n);
	assert_int_equal(outcome[0].r, -ENOSPC);
	assert_string_equal(outcome[0].err.msg, "no room for it");
	assert_int_equal(outcome[0].err.code, ENOSPC);
	assert_int_equal(outcome[0].result, 7);
}

static int crash(_unused_ void *arg, _unused_ void *result, _unused_ struct error *err) {
	const struct rlimit no_core = {0, 0};

	(void)setrlimit(RLIMIT_CORE, &no_core);
	kill(getpid(), SIGKILL);
	return 0;
}

static int leave(_unused_ void *arg, _unused_ void *result, _unused_ struct error *err) {
	_exit(3);
}

static void an_early_end_is_told(void **state) {
	(void)state;
	start(0, crash, NULL, 60000);
	start(1, leave, NULL, 60000);
	RUN_UNTIL(outcome[0].n && outcome[1].n);
	assert_int_equal(outcome[0].r, -EREMOTEIO);
	assert_string_equal(outcome[0].err.msg, "the worker process was killed by signal 9");
	assert_false(outcome[0].has_result);
	assert_int_equal(outcome[1].r, -EREMOTEIO);
	assert_string_equal(outcome[1].err.msg, "the worker process ended early with status 3");
}

/* The worker and its child never end. */
static int hang(_unused_ void *arg, _unused_ void *result, _unused_ struct error *err) {
	pid_t child = fork();

	if (child > 0) {
		shared->child = child;
		shared->worker = getpid();
	}
	while (pause())
		;
	return 0;
}

/* The function returns and leaves a process behind. */
static int leave_a_child(void *arg, void *result, struct error *err) {
	pid_t child = fork();

	if (child > 0) {
		shared->child = child;
		return answer(arg, result, err);
	}
	for (;;)
		pause();
}

static void a_timeout_ends_it_and_its_children(void **state) {
	(void)state;
	start(0, hang, NULL, 1000);
	RUN_UNTIL(outcome[0].n);
	assert_int_equal(outcome[0].r, -ETIMEDOUT);
	assert_string_equal(outcome[0].err.msg, "the worker process did not end within 1 s");
	assert_false(outcome[0].has_result);
	assert_true(shared->worker > 0 && is_gone(shared->worker) && is_gone(shared->child));
}

static int be_slow(_unused_ void *arg, void *result, _unused_ struct error *err) {
	poll(NULL, 0, 300);
	*(int *)result = 3;
	return 0;
}

static void without_a_timeout_it_may_take_long(void **state) {
	(void)state;
	start(0, be_slow, NULL, 0);
	RUN_UNTIL(outcome[0].n);
	assert_int_equal(outcome[0].r, 0);
	assert_int_equal(outcome[0].result, 3);
}

static void no_child_outlives_its_worker(void **state) {
	(void)state;
	int arg = 1;

	start(0, leave_a_child, &arg, 60000);
	RUN_UNTIL(outcome[0].n);
	assert_int_equal(outcome[0].r, 0);
	assert_int_equal(outcome[0].result, 2);
	assert_true(is_gone(shared->child));
}

static void a_cancelled_one_is_gone(void **state) {
	(void)state;
	int arg = 1;
	struct job *job = start(0, hang, NULL, 60000), *waits;

	RUN_UNTIL(shared->worker);
	assert_true(job_is_running(job));
	job_cancel(job);
	job_cancel(job);
	assert_int_equal(outcome[0].n, 0);
	/* A job that has not begun. */
	waits = start(1, answer, &arg, 60000);
	assert_false(job_is_running(waits));
	job_cancel(waits);
	job_cancel(waits);
	assert_int_equal(outcome[1].n, 0);
	RUN_UNTIL(outcome[0].n && outcome[1].n);
	assert_int_equal(outcome[0].r, -ECANCELED);
	assert_int_equal(outcome[1].r, -ECANCELED);
	assert_true(is_gone(shared->worker) && is_gone(shared->child));
	assert_int_equal(outcome[0].n + outcome[1].n, 2);
}

static int take_a_while(void *arg, _unused_ void *result, _unused_ struct error *err) {
	int running = __sync_add_and_fetch(&shared->running, 1), n = __sync_fetch_and_add(&shared->started, 1), most;

	shared->order[n] = (int)(intptr_t)arg;
	while ((most = shared->most) < running && !__sync_bool_compare_and_swap(&shared->most, most, running))
		;
	usleep(20000);
	__sync_sub_and_fetch(&shared->running, 1);
	return 0;
}

static void so_many_at_once_and_in_their_order(void **state) {
	(void)state;
	enum { ALL = 20 };
	int ended = 0;

	for (int i = 0; i < ALL; i++)
		start(i, take_a_while, (void *)(intptr_t)i, 60000);
	while (ended < ALL) {
		RUN_UNTIL(outcome[ended].n);
		assert_int_equal(outcome[ended].r, 0);
		ended++;
	}
	assert_int_equal(shared->started, ALL);
	assert_in_range(shared->most, 2, POOL);
	/* Jobs that are started together may begin in any order. */
	for (int i = 0; i < ALL; i++)
		assert_in_range(shared->order[i] + POOL, i, i + 2 * POOL);
}

static void its_parent_is_killed(void **state) {
	(void)state;
	fflush(NULL);
	pid_t parent = fork();
	assert_true(parent >= 0);
	if (parent == 0) {
		/* A loop works only in the process that made it. */
		if (sd_event_new(&loop) < 0 || jobs_new(&jobs, loop, POOL, SD_EVENT_PRIORITY_NORMAL, &error) < 0)
			_exit(1);
		start(0, hang, NULL, 60000);
		while (sd_event_run(loop, UINT64_MAX) >= 0)
			;
		_exit(2);
	}
	for (int i = 0; i < 6000 && !shared->worker; i++)
		usleep(10000);
	bool ran = shared->worker > 0 && !is_gone(shared->worker) && !is_gone(shared->child);
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(waitpid(parent, NULL, 0), parent);
	assert_true(ran);
	for (int i = 0; i < 6000 && !(is_gone(shared->worker) && is_gone(shared->child)); i++)
		usleep(10000);
	assert_true(is_gone(shared->worker) && is_gone(shared->child));
}

static void a_pool_that_goes_takes_its_workers(void **state) {
	(void)state;
	start(0, hang, NULL, 60000);
	RUN_UNTIL(shared->worker);
	jobs = jobs_free(jobs);
	assert_true(is_gone(shared->worker));
	for (int i = 0; i < 6000 && !is_gone(shared->child); i++)
		usleep(10000);
	assert_true(is_gone(shared->child));
	assert_int_equal(outcome[0].n, 0);
}

/* Checks descriptors and signals of the worker. The directory that it lists is one of the descriptors. */
static int look_at_itself(void *arg, void *result, struct error *err) {
	const int *kept = arg;
	sigset_t blocked;
	struct sigaction hup, pipe;

	sigprocmask(SIG_BLOCK, NULL, &blocked);
	sigaction(SIGHUP, NULL, &hup);
	sigaction(SIGPIPE, NULL, &pipe);
	if (!sigisemptyset(&blocked) || hup.sa_handler != SIG_DFL || pipe.sa_handler != SIG_IGN)
		return error_set(err, EINVAL, "its signals are not those of job.h");
	if (fcntl(kept[0], F_GETFD) < 0 || fcntl(kept[1], F_GETFD) < 0)
		return error_set(err, EBADF, "it lost what it was to keep");
	*(int *)result = fds();
	return 0;
}

static void a_worker_has_what_it_was_given(void **state) {
	(void)state;
	struct job *job;
	int kept[2] = {open("/dev/null", O_RDONLY | O_CLOEXEC), open("/dev/null", O_RDONLY | O_CLOEXEC)};
	int closed = open("/dev/null", O_RDONLY);
	const struct job_spec spec = {.fn = look_at_itself,
	                              .arg = kept,
	                              .result_size = sizeof(int),
	                              .keep = {kept[1], kept[0]},
	                              .n_keep = 2,
	                              .timeout_ms = 60000,
	                              .done = on_done,
	                              .userdata = &outcome[0]};
	sigset_t set, before;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &before);
	signal(SIGHUP, SIG_IGN);
	OK(job_start(jobs, &spec, &job, &error));
	RUN_UNTIL(outcome[0].n);
	signal(SIGHUP, SIG_DFL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	assert_string_equal(outcome[0].err.msg, "");
	assert_int_equal(outcome[0].r, 0);
	/* ".", "..", three standard descriptors, two kept ones, the pipe, the directory. */
	assert_int_equal(outcome[0].result, 9);
	close(kept[0]);
	close(kept[1]);
	close(closed);
}

/* Whatever the number of free descriptors, the job runs or `done` gets the error, and the pool goes on. */
static void a_failed_start_is_told(void **state) {
	(void)state;
	struct rlimit all, few;
	int arg = 1, lowest = open("/dev/null", O_RDONLY | O_CLOEXEC), failed = 0;

	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
	for (int n = 0; n < 4; n++) {
		start(n, answer, &arg, 60000);
		few = all;
		few.rlim_cur = (rlim_t)lowest + (rlim_t)n;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		uint64_t end = now_monotonic_ns() + 60 * NSEC_PER_SEC;
		while (!outcome[n].n && now_monotonic_ns() < end)
			(void)sd_event_run(loop, 10000);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
		assert_int_equal(outcome[n].n, 1);
		assert_true(outcome[n].r == 0 || outcome[n].r == -EMFILE);
		failed += outcome[n].r < 0;
	}
	/* Two for the pipe, one for the process. */
	assert_int_equal(failed, 3);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_result_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(an_error_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(an_early_end_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(a_timeout_ends_it_and_its_children, setup, teardown),
		cmocka_unit_test_setup_teardown(without_a_timeout_it_may_take_long, setup, teardown),
		cmocka_unit_test_setup_teardown(no_child_outlives_its_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(a_cancelled_one_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(so_many_at_once_and_in_their_order, setup, teardown),
		cmocka_unit_test_setup_teardown(its_parent_is_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(a_pool_that_goes_takes_its_workers, setup, teardown),
		cmocka_unit_test_setup_teardown(a_worker_has_what_it_was_given, setup, teardown),
		cmocka_unit_test_setup_teardown(a_failed_start_is_told, setup, teardown),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
