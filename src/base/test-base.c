/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/base64.h"
#include "base/hash.h"
#include "base/inet.h"
#include "base/jsonread.h"
#include "base/jsonwrite.h"
#include "base/listen.h"
#include "base/metrics.h"
#include "base/proc.h"
#include "base/testing.h"
#include "base/util.h"

static void test_prefix(void **state) {
	struct prefix p, q;
	struct error err = {0};
	char s[PREFIX_STR_MAX];
	(void)state;
	assert_int_equal(prefix_parse("2001:db8::/32", &p, &err), 0);
	assert_int_equal(prefix_nth(&p, 64, 0x10001, &q), 0);
	assert_string_equal(prefix_str(&q, s), "2001:db8:1:1::/64");
	assert_true(prefix_contains(&p, &q));
	assert_false(prefix_contains(&q, &p));
	assert_int_equal(prefix_nth(&q, 60, 0, &p), -ERANGE);
	assert_int_equal(prefix_parse("2001:db8::1/64", &p, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "2001:db8::/64"));
	static const char *const bad[] = {
		"",       "/",           "1.2.3.4",  "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/032", "2001:DB8::/32",
		"::/129", "10.0.0.0/8x", "10.0.0.0/"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(prefix_parse(bad[i], &p, NULL), -EINVAL);
	assert_int_equal(prefix_parse("::/0", &p, NULL), 0);
	assert_true(prefix_overlaps(&p, &q));
	assert_int_equal(prefix_count(&p, 128), UINT64_MAX);
	assert_int_equal(prefix_parse("198.51.100.0/24", &p, NULL), 0);
	assert_int_equal(prefix_nth(&p, 32, 255, &q), 0);
	assert_string_equal(prefix_str(&q, s), "198.51.100.255/32");
	assert_int_equal(prefix_nth(&p, 32, 256, &q), -ERANGE);
}

static void test_mac(void **state) {
	struct mac m;
	struct addr net, a;
	char s[ADDR_STR_MAX];
	(void)state;
	assert_int_equal(mac_parse("02:00:00:00:00:01", &m, NULL), 0);
	assert_int_equal(addr_parse("fe80::", &net, NULL), 0);
	a = addr_eui64(&net, &m);
	assert_string_equal(addr_str(&a, s), "fe80::ff:fe00:1");
	static const char *const bad[] = {"",
	                                  "01:00:00:00:00:01",
	                                  "00:00:00:00:00:00",
	                                  "02:00:00:00:00",
	                                  "02:00:00:00:00:0g",
	                                  "02:00:00:00:00:011",
	                                  "02-00-00-00-00-01",
	                                  "0A:00:00:00:00:01"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(mac_parse(bad[i], &m, NULL), -EINVAL);
}

static void test_json_read(void **state) {
	struct jr r;
	const char *s;
	size_t n;
	int64_t v;
	(void)state;
	const char *text = " {\"a\" : [1, -9223372036854775808, 2.0], \"b\\n\": \"x\\u00e9\\ud83d\\ude00\", "
			   "\"c\":{\"d\":[{},[]]}, \"e\":true}";
	jr_init(&r, text, strlen(text));
	assert_int_equal(jr_object(&r), 0);
	assert_int_equal(jr_key(&r, &s, &n), 1);
	assert_memory_equal(s, "a", n);
	assert_int_equal(jr_array(&r), 0);
	static const int64_t want[] = {1, INT64_MIN, 2};
	for (int i = 0; i < 3; i++) {
		assert_int_equal(jr_elem(&r), 1);
		assert_int_equal(jr_i64(&r, &v), 0);
		assert_true(v == want[i]);
	}
	assert_int_equal(jr_elem(&r), 0);
	assert_int_equal(jr_key(&r, &s, &n), 1);
	assert_memory_equal(s, "b\n", n);
	assert_int_equal(jr_string(&r, &s, &n), 0);
	assert_int_equal(n, 7);
	assert_memory_equal(s, "x\xc3\xa9\xf0\x9f\x98\x80", n);
	assert_int_equal(jr_key(&r, &s, &n), 1);
	assert_int_equal(jr_skip(&r, &s, &n), 0);
	assert_memory_equal(s, "{\"d\":[{},[]]}", n);
	assert_int_equal(jr_key(&r, &s, &n), 1);
	assert_int_equal(jr_skip(&r, NULL, NULL), 0);
	assert_int_equal(jr_key(&r, &s, &n), 0);
	assert_int_equal(jr_end(&r), 0);
	jr_done(&r);

	static const char *const bad[] = {"",
	                                  "{",
	                                  "[1,]",
	                                  "[,1]",
	                                  "{\"a\":}",
	                                  "{\"a\" 1}",
	                                  "{a:1}",
	                                  "[1 2]",
	                                  "01",
	                                  "1.",
	                                  "-",
	                                  "1e",
	                                  "\"\\ud800\"",
	                                  "\"\\u0000\"",
	                                  "\"\xff\"",
	                                  "\"\xc0\x80\"",
	                                  "\"\xed\xa0\x80\"",
	                                  "\"a\nb\"",
	                                  "tru",
	                                  "[]]",
	                                  "{\"a\":1,}",
	                                  "\"\\x\"",
	                                  "nul",
	                                  "[1",
	                                  "\"abc"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		jr_init(&r, bad[i], strlen(bad[i]));
		if (jr_skip(&r, NULL, NULL) == 0 && jr_end(&r) == 0)
			fail_msg("accepted: %s", bad[i]);
		jr_done(&r);
	}
	char deep[200];
	memset(deep, '[', sizeof(deep));
	jr_init(&r, deep, sizeof(deep));
	assert_int_equal(jr_skip(&r, NULL, NULL), -EINVAL);
	assert_string_equal(r.what, "nested too deeply");
	jr_done(&r);
}

static void test_json_write(void **state) {
	_buf_free_ struct buf b = {0};
	(void)state;
	jw_begin(&b, '{');
	jw_kv_string(&b, "a", "x\"\\\n\x01");
	jw_key(&b, "l");
	jw_begin(&b, '[');
	jw_i64(&b, 1);
	jw_bool(&b, false);
	jw_begin(&b, '{');
	jw_end(&b, '}');
	jw_string(&b, "");
	jw_null(&b);
	jw_end(&b, ']');
	jw_kv_string(&b, "none", NULL);
	jw_kv_i64(&b, "z", -5);
	jw_end(&b, '}');
	assert_string_equal(b.data, "{\"a\":\"x\\\"\\\\\\n\\u0001\",\"l\":[1,false,{},\"\",null],\"z\":-5}");
}

static void test_buf_max(void **state) {
	_buf_free_ struct buf b = {.max = 10};
	struct error err;
	(void)state;
	buf_puts(&b, "0123456789");
	assert_int_equal(buf_error(&b, "x", &err), 0);
	buf_putc(&b, 'a');
	assert_int_equal(buf_error(&b, "the body", &err), -EMSGSIZE);
	assert_string_equal(err.msg, "the body: larger than the allowed 10 bytes");
	assert_int_equal(b.len, 10);
}

static void test_time(void **state) {
	char s[TIME_STR_MAX];
	uint64_t us;
	(void)state;
	assert_string_equal(time_str(1700000000123456, true, s), "2023-11-14T22:13:20.123456Z");
	assert_int_equal(time_parse(s, &us), 0);
	assert_true(us == 1700000000123456);
	assert_int_equal(time_parse("2023-11-14T22:13:20+01:00", &us), 0);
	assert_true(us == 1699996400000000);
	static const char *const bad[] = {"2023-11-14",           "2023-2-30T00:00:00Z",  "2023-02-30T00:00:00Z",
	                                  "2023-02-03T00:00:60Z", "2023-02-03T24:00:00Z", "2023-02-03t00:00:00Z",
	                                  "2023-02-03T00:00:0Z",  "2023-02-03T00:00:00",  ""};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(time_parse(bad[i], &us), -EINVAL);
}

static void test_proc(void **state) {
	_buf_free_ struct buf out = {0};
	struct error err = {0};
	(void)state;
	assert_int_equal(
		proc_run(&(struct proc_spec){.argv = (const char *[]){"cat", NULL}, .input = "hello"}, &out, &err), 0);
	assert_string_equal(out.data, "hello");
	assert_int_equal(
		proc_run(&(struct proc_spec){.argv = (const char *[]){"sh", "-c", "echo bad >&2; exit 3", NULL}}, NULL,
	                 &err),
		-EREMOTEIO);
	assert_string_equal(err.msg, "`sh -c echo bad >&2; exit 3` exited with status 3: bad");
	assert_int_equal(proc_run(&(struct proc_spec){.argv = (const char *[]){"/nonexistent", NULL}}, NULL, &err),
	                 -EREMOTEIO);
	assert_non_null(strstr(err.msg, "No such file"));
	assert_int_equal(proc_run(&(struct proc_spec){.argv = (const char *[]){"sleep", "100", NULL}, .timeout_ms = 50},
	                          NULL, &err),
	                 -ETIMEDOUT);
	pid_t pid, again;
	assert_int_equal(
		proc_start_detached(&(struct proc_spec){.argv = (const char *[]){"/nonexistent", NULL}}, &pid, &err),
		-ENOENT);
	assert_int_equal(
		proc_start_detached(&(struct proc_spec){.argv = (const char *[]){"sleep", "1000", NULL}}, &pid, &err),
		0);
	char path[] = "/tmp/nacre-test-pid-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	test_claim("dir", path);
	assert_int_equal(proc_pidfile_write(path, pid, &err), 0);
	assert_int_equal(proc_pidfile_read(path, &again), 0);
	assert_int_equal(pid, again);
	assert_int_equal(proc_stop(pid, 1000, &err), 0);
	assert_int_equal(proc_pidfile_read(path, &again), -ESRCH);
	unlink(path);
}

static void *stay(void *tid) {
	for (;;)
		pause();
	return tid;
}

/* A process whose first thread has ended, but not another one, still holds its sockets and locks. */
static void test_half_ended(void **state) {
	char path[64], *text = NULL;
	pthread_t other;
	uint64_t start;
	(void)state;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(60); /* ends the child if the test fails meanwhile */
		if (pthread_create(&other, NULL, stay, NULL) == 0)
			syscall(SYS_exit, 0); /* this thread alone */
		_exit(1);
	}
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	for (int i = 0; i < 6000 && (!text || !strstr(text, ") Z ")); i++) {
		free(text);
		assert_int_equal(read_file(path, 1024, &text, NULL, NULL), 0);
		poll(NULL, 0, 10);
	}
	assert_non_null(strstr(text, ") Z "));
	free(text);
	assert_int_equal(proc_start_time(pid, &start), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(proc_start_time(pid, &start), -ESRCH);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* RFC 4648, section 10. */
static void test_base64(void **state) {
	static const char *const pairs[][2] = {{"", ""},
	                                       {"f", "Zg=="},
	                                       {"fo", "Zm8="},
	                                       {"foo", "Zm9v"},
	                                       {"foob", "Zm9vYg=="},
	                                       {"fooba", "Zm9vYmE="},
	                                       {"foobar", "Zm9vYmFy"}};
	static const char *const bad[] = {"Zg", "Zg=", "Z===", "====", "Zm9*", "Zm 9", "=m9v"};
	size_t at;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		_buf_free_ struct buf text = {0}, back = {0};
		base64_encode(&text, pairs[i][0], strlen(pairs[i][0]));
		assert_string_equal(text.data ? text.data : "", pairs[i][1]);
		assert_int_equal(base64_decode(&back, pairs[i][1], strlen(pairs[i][1]), &at), 0);
		assert_int_equal(back.len, strlen(pairs[i][0]));
		assert_string_equal(back.data ? back.data : "", pairs[i][0]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(base64_decode(NULL, bad[i], strlen(bad[i]), &at), -EINVAL);
}

struct knocker {
	const char *path;
	atomic_bool stop;
	atomic_int refused;
};

/* Looks for the name of the socket and connects as soon as the name exists. */
static void *knock(void *arg) {
	struct knocker *k = arg;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	strcpy(sa.sun_path, k->path);
	while (!k->stop) {
		_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno == ECONNREFUSED)
			k->refused++;
	}
	return NULL;
}

/* Whoever finds the name of a socket can connect to it. */
static void test_listen(void **state) {
	(void)state;
	char dir[] = "/tmp/nacre-test-XXXXXX", path[64], url[80];
	assert_non_null(test_mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	snprintf(url, sizeof(url), "unix:%s", path);
	struct knocker k = {.path = path};
	struct error err = {0};
	struct stat st;
	pthread_t thread;
	int fds[200], other;
	assert_int_equal(pthread_create(&thread, NULL, knock, &k), 0);
	/* The sockets stay open to the end, so that a connect to an earlier one isn't refused either. */
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_int_equal(listen_socket(url, &fds[i], &err), 0);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal(listen_socket(url, &other, &err), -EADDRINUSE);
		assert_int_equal(unlink(path), 0);
	}
	k.stop = true;
	pthread_join(thread, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	assert_int_equal(k.refused, 0);
	/* A name on which nobody answers is taken over. A socket whose queue is full keeps its name. */
	assert_int_equal(listen_socket(url, &fds[0], &err), 0);
	close(fds[0]);
	assert_int_equal(listen_socket(url, &fds[0], &err), 0);
	assert_int_equal(listen(fds[0], 0), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(listen_socket(url, &other, &err), -EADDRINUSE);
	close(fds[0]);
	assert_int_equal(remove_tree(dir, &err), 0);
}

/* ---- the order in which data reaches the disk: the calls of the code under test come here ---- */

static struct {
	char done[8][128]; /* "sync NAME" and "rename NAME", with the name at that time */
	size_t n;
	bool fail_sync;
} disk;

static void disk_note(const char *what, const char *path) {
	const char *slash = strrchr(path, '/');
	if (disk.n < ARRAY_SIZE(disk.done))
		snprintf(disk.done[disk.n++], sizeof(disk.done[0]), "%s %s", what, slash ? slash + 1 : path);
}

int fsync(int fd) {
	char link[64], path[128];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	assert_true(n > 0);
	path[n] = '\0';
	disk_note("sync", path);
	if (!disk.fail_sync)
		return 0;
	errno = EIO;
	return -1;
}

int rename(const char *from, const char *to) {
	disk_note("rename", from);
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static size_t count_files(const char *dir) {
	size_t n = 0;
	DIR *d = opendir(dir);
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

/* The bytes are synced first, then the name, then the directory: a power cut leaves no empty or incomplete file. */
static void test_durable(void **state) {
	char dir[] = "/tmp/nacre-base-XXXXXX", temporary[64];
	_free_ char *text = NULL, *path = NULL;
	struct error err = {0};
	(void)state;
	assert_non_null(test_mkdtemp(dir));
	path = strf("%s/key", dir);
	memset(&disk, 0, sizeof(disk));
	assert_int_equal(write_file_atomic(path, "one", 3, 0600, &err), 0);
	assert_int_equal(disk.n, 3);
	assert_int_equal(sscanf(disk.done[0], "sync %63s", temporary), 1);
	assert_int_equal(strncmp(temporary, "key.", 4), 0);
	assert_string_equal(disk.done[1] + strlen("rename "), temporary);
	assert_string_equal(disk.done[2] + strlen("sync "), dir + strlen("/tmp/"));
	/* A file whose bytes could not be synced replaces nothing. */
	disk.fail_sync = true;
	assert_int_equal(write_file_atomic(path, "two", 3, 0600, &err), -EIO);
	assert_int_equal(disk.n, 4);
	assert_int_equal(count_files(dir), 1);
	assert_int_equal(rename_durable(path, "/tmp/nacre-base-other", &err), -EIO);
	assert_int_equal(read_file(path, 16, &text, NULL, &err), 0);
	assert_string_equal(text, "one");
	disk.fail_sync = false;
	remove_tree(dir, NULL);
}

/* Every collector is called, however many there are. */
static void add_one(void *userdata) {
	++*(int *)userdata;
}

/* A reference vector of FNV-1a. Rows of databases and MACs of routers depend on these values. */
static void test_hash(void **state) {
	(void)state;
	assert_true(fnv1a(FNV1A_BASIS, "", 0) == FNV1A_BASIS);
	assert_true(fnv1a(FNV1A_BASIS, "foobar", 6) == UINT64_C(0x85944171f73967e8));
	assert_true(fnv1a(fnv1a(FNV1A_BASIS, "foo", 3), "bar", 3) == UINT64_C(0x85944171f73967e8));
}

static void test_string_set(void **state) {
	char *s = NULL;
	(void)state;
	assert_int_equal(string_set(&s, "one"), 1);
	const char *before = s;
	assert_int_equal(string_set(&s, "one"), 0);
	assert_ptr_equal(s, before);
	assert_int_equal(string_set(&s, "two"), 1);
	assert_string_equal(s, "two");
	free(s);
}

static void test_lock_path(void **state) {
	char dir[] = "/tmp/nacre-test-base-XXXXXX";
	struct error err = {0};
	int one = -1, two = -1;
	(void)state;
	assert_non_null(test_mkdtemp(dir));
	_free_ char *file = strf("%s/lock", dir);
	struct {
		const char *path;
		int flags;
	} both[] = {{file, O_RDWR | O_CREAT}, {dir, O_RDONLY | O_DIRECTORY}};
	assert_int_equal(lock_path(file, O_RDWR, false, &one, &err), -ENOENT);
	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		assert_int_equal(lock_path(both[i].path, both[i].flags, false, &one, &err), 0);
		assert_int_equal(lock_path(both[i].path, both[i].flags, false, &two, &err), -EBUSY);
		assert_non_null(strstr(err.msg, both[i].path));
		assert_int_equal(two, -1);
		close(one);
		assert_int_equal(lock_path(both[i].path, both[i].flags, true, &two, &err), 0);
		close(two);
		one = two = -1;
	}
	assert_int_equal(remove_tree(dir, &err), 0);
}

static void test_collectors(void **state) {
	int asked[40] = {0};
	_buf_free_ struct buf out = {0};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		metrics_collect(add_one, &asked[i]);
	metrics_collect(add_one, &asked[7]);
	metrics_forget(&asked[3]);
	metrics_render(&out);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		assert_int_equal(asked[i], i == 3 ? 0 : 1);
		metrics_forget(&asked[i]);
	}
	metrics_render(&out);
	assert_int_equal(asked[0], 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listen),    cmocka_unit_test(test_prefix),     cmocka_unit_test(test_mac),
		cmocka_unit_test(test_json_read), cmocka_unit_test(test_json_write), cmocka_unit_test(test_buf_max),
		cmocka_unit_test(test_time),      cmocka_unit_test(test_proc),       cmocka_unit_test(test_half_ended),
		cmocka_unit_test(test_base64),    cmocka_unit_test(test_durable),    cmocka_unit_test(test_collectors),
		cmocka_unit_test(test_hash),      cmocka_unit_test(test_string_set), cmocka_unit_test(test_lock_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
