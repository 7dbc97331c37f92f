/* SPDX-License-Identifier: Apache-2.0 */

/* The difference of two configurations, and a real pair of daemons in a namespace of this run's own. */

#include "base/testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/util.h"
#include "net/frr.h"
#include "net/netns.h"

static struct error error;

static void diff(const char *old, const char *new, const char *want) {
	_buf_free_ struct buf out = {0};
	OK(frr_config_diff(old, new, &out, &error));
	assert_string_equal(out.data ? out.data : "", want);
}

static void test_diff(void **state) {
	const char *base = "frr defaults datacenter\n"
			   "router bgp 65001\n"
			   " bgp router-id 1.1.1.1\n"
			   " neighbor eth0 interface remote-as external\n"
			   " address-family ipv6 unicast\n"
			   "  network fd00::1/128\n"
			   "  neighbor eth0 activate\n";
	diff(base, base, "");
	diff("", "", "");
	/* Comments, blank lines and blanks at the end mean nothing. */
	diff(base,
	     "! comment\n\nfrr defaults datacenter  \nrouter bgp 65001\n bgp router-id 1.1.1.1\n"
	     " neighbor eth0 interface remote-as external\n address-family ipv6 unicast\n"
	     "  network fd00::1/128\n  neighbor eth0 activate\n!\n",
	     "");
	diff("router bgp 1\n address-family ipv6 unicast\n  network a\n  network b\n",
	     "router bgp 1\n address-family ipv6 unicast\n  network b\n  network c\n",
	     "\n router bgp 1\n address-family ipv6 unicast\n-no network a\n"
	     "\n\n router bgp 1\n address-family ipv6 unicast\n+network c\n");
	/* A context goes as a whole, an address family by what is in it. */
	diff("route-map m permit 10\n set x\n", "", "-no route-map m permit 10\n\n");
	diff("router bgp 1\n address-family ipv4 unicast\n  network a\n", "router bgp 1\n",
	     "\n router bgp 1\n address-family ipv4 unicast\n-no network a\n\n");
	diff("router bgp 1\n address-family ipv4 unicast\n  network a\n", "", "-no router bgp 1\n\n");
	/* "no" is taken back by leaving it out. */
	diff("no bgp x\n", "", "-bgp x\n\n");
	diff("", "router bgp 1\n neighbor a\n address-family x\n  activate a\n neighbor b\n",
	     "+router bgp 1\n+neighbor a\n+address-family x\n+activate a\n\n router bgp 1\n+neighbor b\n");
}

static void test_diff_bad(void **state) {
	_buf_free_ struct buf out = {0};
	assert_int_equal(frr_config_diff("", " no context\n", &out, &error), -EINVAL);
	assert_int_equal(frr_config_diff("", "a\n  too deep\n", &out, &error), -EINVAL);
	assert_int_equal(
		frr_config_diff("", "a\n b\n  c\n   d\n    e\n     f\n      g\n       h\n        i\n", &out, &error),
		-EINVAL);
}

static char netns[64], dir[64];

static int teardown(void **state) {
	struct frr f = {netns, dir};
	OK(frr_stop(&f, &error));
	OK(frr_stop(&f, &error));
	OK(netns_delete(netns, &error));
	assert_int_equal(access(dir, F_OK), -1);
	snprintf(dir + strlen(dir), 8, ".conf");
	assert_int_equal(access(dir, F_OK), -1);
	return 0;
}

static int setup(void **state) {
	snprintf(netns, sizeof(netns), "tf%d", getpid());
	snprintf(dir, sizeof(dir), "/run/nacre-tf%d", getpid());
	OK(netns_ensure(netns, NULL, &error));
	return 0;
}

static pid_t pid_of(const char *daemon) {
	char path[96];
	_free_ char *text = NULL;
	snprintf(path, sizeof(path), "%s/%s.pid", dir, daemon);
	OK(read_file(path, 64, &text, NULL, &error));
	return atoi(text);
}

static bool says(const char *daemon, const char *command, const char *what) {
	const char *const commands[] = {command, NULL};
	struct frr f = {netns, dir};
	_buf_free_ struct buf out = {0};
	OK(frr_command(&f, daemon, commands, &out, &error));
	return out.data && strstr(out.data, what);
}

/* What FRR's user can change is not acted upon: neither configuration, nor a log that is a link. */
static void test_hostile_frr(void **state) {
	struct frr f = {netns, dir};
	char conf[96], log[96], victim[96];
	_buf_free_ struct buf big = {0};
	struct stat st;
	OK(frr_ensure(&f, "",
	              "router bgp 65001\n neighbor eth0 interface remote-as external\n neighbor eth0 password x\n",
	              &error));
	snprintf(conf, sizeof(conf), "%s.conf", dir);
	assert_int_equal(stat(conf, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	snprintf(conf, sizeof(conf), "%s.conf/bgpd.conf", dir);
	assert_int_equal(stat(conf, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_mode & 022, 0);
	snprintf(log, sizeof(log), "%s/bgpd.log", dir);
	snprintf(victim, sizeof(victim), "%s/victim", dir);
	while (big.len < (2U << 20))
		buf_puts(&big, "not to be truncated\n");
	OK(write_file_atomic(victim, big.data, big.len, 0600, &error));
	unlink(log);
	assert_int_equal(symlink(victim, log), 0);
	OK(frr_ensure(&f, "", "router bgp 65001\n", &error));
	assert_int_equal(stat(victim, &st), 0);
	assert_int_equal(st.st_size, big.len);
	/* What FRR says to a line with a password is not repeated. */
	assert_int_equal(frr_ensure(&f, "", "router bgp 65001\n neighbor nobody password s3cret\n", &error),
	                 -EREMOTEIO);
	assert_null(strstr(error.msg, "s3cret"));
	OK(frr_stop(&f, &error));
}

static void test_pair(void **state) {
	struct frr f = {netns, dir};
	const char *zebra = "frr defaults datacenter\n";
	const char *one =
		"router bgp 65001\n bgp router-id 1.1.1.1\n address-family ipv6 unicast\n  network fd00::1/128\n";
	const char *two =
		"router bgp 65001\n bgp router-id 1.1.1.1\n address-family ipv6 unicast\n  network fd00::2/128\n";
	const char *bad =
		"router bgp 65001\n bgp router-id 1.1.1.1\n address-family ipv6 unicast\n  network fd00::3/128\n"
		" bgp nonsense\n";
	OK(frr_ensure(&f, zebra, one, &error));
	pid_t z = pid_of("zebra"), b = pid_of("bgpd");
	assert_true(says("bgpd", "show running-config", "network fd00::1/128"));
	/* Changed without a restart. */
	OK(frr_ensure(&f, zebra, two, &error));
	OK(frr_ensure(&f, zebra, two, &error));
	assert_true(says("bgpd", "show running-config", "network fd00::2/128"));
	assert_false(says("bgpd", "show running-config", "network fd00::1/128"));
	assert_int_equal(pid_of("zebra"), z);
	assert_int_equal(pid_of("bgpd"), b);
	/* Refused, with the line that was; what came before it is taken back in the end. */
	assert_int_equal(frr_ensure(&f, zebra, bad, &error), -EREMOTEIO);
	assert_non_null(strstr(error.msg, "bgp nonsense"));
	assert_true(says("bgpd", "show running-config", "network fd00::3/128"));
	OK(frr_ensure(&f, zebra, one, &error));
	assert_false(says("bgpd", "show running-config", "network fd00::3/128"));
	assert_true(says("bgpd", "show running-config", "network fd00::1/128"));
	/* Whoever died is started again. */
	OK(proc_stop(b, 0, &error));
	OK(frr_ensure(&f, zebra, one, &error));
	assert_int_equal(pid_of("zebra"), z);
	assert_int_not_equal(pid_of("bgpd"), b);
	assert_true(says("bgpd", "show running-config", "network fd00::1/128"));
	/* The namespace was deleted and made anew: the daemons belong into the new one. */
	OK(netns_delete(netns, &error));
	OK(netns_ensure(netns, NULL, &error));
	OK(frr_ensure(&f, zebra, one, &error));
	assert_int_not_equal(pid_of("zebra"), z);
	assert_true(says("bgpd", "show running-config", "network fd00::1/128"));
}

/* How many processes have our directory in their arguments. */
static unsigned processes(void) {
	unsigned n = 0;
	DIR *proc = opendir("/proc");
	assert_non_null(proc);
	for (struct dirent *e; (e = readdir(proc));) {
		char path[300];
		_free_ char *args = NULL;
		size_t len = 0;
		snprintf(path, sizeof(path), "/proc/%s/cmdline", e->d_name);
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9' && read_file(path, 1 << 20, &args, &len, NULL) == 0 &&
		    memmem(args, len, dir, strlen(dir)))
			n++;
	}
	closedir(proc);
	return n;
}

/* A killed agent left a bgpd that gets no processor for half a second. */
static void test_slow_to_start(void **state) {
	struct frr f = {netns, dir};
	char conf[96], pid[96], zserv[96], lock[96];
	int ready[2];
	snprintf(conf, sizeof(conf), "%s.late", dir);
	snprintf(pid, sizeof(pid), "%s/bgpd.pid", dir);
	snprintf(zserv, sizeof(zserv), "%s/zserv.api", dir);
	snprintf(lock, sizeof(lock), "%s.conf/bgpd.lock", dir);
	OK(frr_ensure(&f, "", "router bgp 65001\n", &error));
	OK(proc_stop(pid_of("bgpd"), 3000, &error));
	OK(write_file_atomic(conf, "router bgp 65001\n", 17, 0644, &error));
	assert_int_equal(pipe(ready), 0);
	pid_t late = fork();
	if (late == 0) {
		int fd = open(lock, O_RDONLY);
		flock(fd, LOCK_EX);
		(void)!write(ready[1], "", 1);
		usleep(500 * 1000);
		execlp("ip", "ip", "netns", "exec", netns, "/usr/lib/frr/bgpd", "-d", "-f", conf, "-i", pid, "-z",
		       zserv, "-A", "127.0.0.1", "-P", "0", "--vty_socket", dir, NULL);
		_exit(1);
	}
	assert_true(late > 0);
	assert_int_equal(read(ready[0], pid, 1), 1);
	close(ready[0]);
	close(ready[1]);
	OK(frr_ensure(&f, "", "router bgp 65002\n", &error));
	assert_true(says("bgpd", "show running-config", "router bgp 65002"));
	OK(frr_stop(&f, &error));
	/* The directory is there again, and whoever is late comes now, if ever. */
	OK(frr_ensure(&f, "", "router bgp 65003\n", &error));
	OK(proc_stop(pid_of("bgpd"), 3000, &error));
	assert_int_equal(waitpid(late, NULL, 0), late);
	unlink(conf);
	OK(frr_ensure(&f, "", "router bgp 65003\n", &error));
	assert_true(says("bgpd", "show running-config", "router bgp 65003"));
	OK(frr_stop(&f, &error));
	assert_int_equal(processes(), 0);
}

/* The agent is killed at some moment of the start; the next one finds what goes on starting, or that it hasn't begun.
 */
static void test_killed_while_starting(void **state) {
	struct frr f = {netns, dir};
	OK(frr_stop(&f, &error));
	for (unsigned ms = 0; ms < 60; ms += 3) {
		pid_t agent = fork();
		if (agent == 0) {
			struct error e;
			_exit(frr_ensure(&f, "", "router bgp 65001\n", &e) < 0);
		}
		assert_true(agent > 0);
		usleep(ms * 1000);
		kill(agent, SIGKILL);
		assert_int_equal(waitpid(agent, NULL, 0), agent);
		OK(frr_ensure(&f, "", "router bgp 65002\n", &error));
		assert_true(says("bgpd", "show running-config", "router bgp 65002"));
		OK(frr_stop(&f, &error));
		assert_int_equal(processes(), 0);
	}
}

static void test_bounded_log(void **state) {
	struct frr f = {netns, dir};
	char path[96];
	struct stat st;
	snprintf(path, sizeof(path), "%s/bgpd.log", dir);
	assert_int_equal(truncate(path, 2 << 20), 0);
	OK(frr_ensure(&f, "", "router bgp 65001\n", &error));
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 1 << 20);
}

int main(void) {
	const struct CMUnitTest pure[] = {cmocka_unit_test(test_diff), cmocka_unit_test(test_diff_bad)};
	const struct CMUnitTest live[] = {cmocka_unit_test(test_pair), cmocka_unit_test(test_bounded_log),
	                                  cmocka_unit_test(test_hostile_frr), cmocka_unit_test(test_slow_to_start),
	                                  cmocka_unit_test(test_killed_while_starting)};
	int r = cmocka_run_group_tests(pure, NULL, NULL);
	if (r == 0 && geteuid() == 0)
		r = cmocka_run_group_tests(live, setup, teardown);
	return r;
}
