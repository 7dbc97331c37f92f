/* SPDX-License-Identifier: Apache-2.0 */

/* Two real daemons, in a namespace of this test run. */

#include "base/testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/util.h"
#include "net/bgp-password.h"
#include "net/frr.h"
#include "net/netns.h"

static struct error error;

static char netns[64], dir[64];
static unsigned patience_s;

static int teardown(void **state) {
	struct frr f = {.netns = netns, .dir = dir};
	OK(frr_stop(&f, &error));
	OK(frr_stop(&f, &error));
	OK(netns_delete(netns, &error));
	assert_int_equal(access(dir, F_OK), -1);
	snprintf(dir + strlen(dir), 8, ".conf");
	assert_int_equal(access(dir, F_OK), -1);
	return 0;
}

static int setup(void **state) {
	char conf[sizeof(dir) + 8];

	snprintf(netns, sizeof(netns), "tf%d-frr", getpid());
	snprintf(dir, sizeof(dir), "/run/nacre-tf%d", getpid());
	snprintf(conf, sizeof(conf), "%s.conf", dir);
	test_claim("dir", conf);
	test_claim("dir", dir);
	test_claim("netns", netns);
	OK(netns_ensure(netns, NULL, &error));
	return 0;
}

/* frr_ensure() with a configuration that is given as text. */
static int ensure(const char *zebra, const char *bgpd, struct error *err) {
	struct frr f = {.netns = netns, .dir = dir, .patience_s = patience_s};
	_frrconf_free_ struct frrconf *c = NULL;
	OK(frrconf_new(&c, FRRCONF_EMPTY, err));
	OK(frrconf_parse(c, FRRCONF_ZEBRA, zebra, err));
	OK(frrconf_parse(c, FRRCONF_BGPD, bgpd, err));
	return frr_ensure(&f, c, err);
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
	struct frr f = {.netns = netns, .dir = dir};
	_buf_free_ struct buf out = {0};
	OK(frr_command(&f, daemon, commands, &out, &error));
	return out.data && strstr(out.data, what);
}

/* Files that FRR's user can change have no effect on us: neither a configuration, nor a log that is a link. */
static void test_hostile_frr(void **state) {
	struct frr f = {.netns = netns, .dir = dir};
	char conf[96], log[96], victim[96];
	_buf_free_ struct buf big = {0};
	struct stat st;
	OK(ensure("", "router bgp 65001\n neighbor eth0 interface remote-as external\n neighbor eth0 password x\n",
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
	OK(ensure("", "router bgp 65001\n", &error));
	assert_int_equal(stat(victim, &st), 0);
	assert_int_equal(st.st_size, big.len);
	/* FRR's answer to a line with a password is not repeated. */
	assert_int_equal(ensure("", "router bgp 65001\n neighbor nobody password s3cret\n", &error), -EREMOTEIO);
	assert_null(strstr(error.msg, "s3cret"));
	OK(frr_stop(&f, &error));
}

static void test_pair(void **state) {
	const char *zebra = "frr defaults datacenter\n";
	const char *one =
		"router bgp 65001\n bgp router-id 1.1.1.1\n address-family ipv6 unicast\n  network fd00::1/128\n";
	const char *two =
		"router bgp 65001\n bgp router-id 1.1.1.1\n address-family ipv6 unicast\n  network fd00::2/128\n";
	const char *bad =
		"router bgp 65001\n bgp router-id 1.1.1.1\n address-family ipv6 unicast\n  network fd00::3/128\n"
		" bgp nonsense\n";
	char owes[96];
	OK(ensure(zebra, one, &error));
	pid_t z = pid_of("zebra"), b = pid_of("bgpd");
	assert_true(says("bgpd", "show running-config", "network fd00::1/128"));
	/* The configuration changes without a restart. */
	OK(ensure(zebra, two, &error));
	OK(ensure(zebra, two, &error));
	assert_true(says("bgpd", "show running-config", "network fd00::2/128"));
	assert_false(says("bgpd", "show running-config", "network fd00::1/128"));
	assert_int_equal(pid_of("zebra"), z);
	assert_int_equal(pid_of("bgpd"), b);
	/* The call fails and names the refused line; the lines before it are removed by the next call. */
	assert_int_equal(ensure(zebra, bad, &error), -EREMOTEIO);
	assert_non_null(strstr(error.msg, "bgp nonsense"));
	assert_true(says("bgpd", "show running-config", "network fd00::3/128"));
	OK(ensure(zebra, one, &error));
	assert_false(says("bgpd", "show running-config", "network fd00::3/128"));
	assert_true(says("bgpd", "show running-config", "network fd00::1/128"));
	/* A daemon that died is started again. */
	OK(proc_stop(b, 0, &error));
	OK(ensure(zebra, one, &error));
	assert_int_equal(pid_of("zebra"), z);
	assert_int_not_equal(pid_of("bgpd"), b);
	assert_true(says("bgpd", "show running-config", "network fd00::1/128"));
	/* A new bgpd gives its routes to zebra as it learns them, so it owes it nothing. */
	snprintf(owes, sizeof(owes), "%s.conf/bgpd.owes", dir);
	assert_int_equal(access(owes, F_OK), -1);
	OK(write_file_atomic(owes, "", 0, 0600, &error));
	OK(proc_stop(pid_of("bgpd"), 0, &error));
	OK(ensure(zebra, one, &error));
	assert_int_equal(access(owes, F_OK), -1);
	/* A zebra that can't be started is named. */
	b = pid_of("bgpd");
	OK(proc_stop(z, 0, &error));
	assert_int_equal(mkdir(owes, 0700), 0);
	assert_true(ensure(zebra, one, &error) < 0);
	assert_non_null(strstr(error.msg, "start zebra in"));
	assert_int_equal(rmdir(owes), 0);
	/* A bgpd that outlives zebra gives its routes to the next one, also if a line is refused meanwhile. Here bgpd
	 * has no route to give; test_routes_owed() shows that it is told to, tests/net and tests/e2e that zebra gets
	 * the routes. A bgpd that found no zebra would try again only ten seconds later, so it doesn't look meanwhile.
	 */
	assert_int_equal(kill(b, SIGSTOP), 0);
	OK(ensure(zebra, one, &error));
	assert_int_equal(access(owes, F_OK), 0);
	assert_int_equal(kill(b, SIGCONT), 0);
	for (int i = 0; i < 1200 && !says("zebra", "show zebra client summary", "\nbgp "); i++)
		usleep(100000);
	assert_int_equal(ensure(zebra, bad, &error), -EREMOTEIO);
	assert_int_equal(access(owes, F_OK), -1);
	OK(ensure(zebra, one, &error));
	assert_int_equal(pid_of("bgpd"), b);
	z = pid_of("zebra");
	/* The namespace was deleted and created again: the daemons must run in the new one. */
	OK(netns_delete(netns, &error));
	OK(netns_ensure(netns, NULL, &error));
	OK(ensure(zebra, one, &error));
	assert_int_not_equal(pid_of("zebra"), z);
	assert_true(says("bgpd", "show running-config", "network fd00::1/128"));
}

/* Takes the place of bgpd's socket. The real one is at *RET_REAL then. */
static int be_bgpd(char ret_real[static 96]) {
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/bgpd.vty", dir);
	snprintf(ret_real, 96, "%s/bgpd.real", dir);
	assert_int_equal(rename(sa.sun_path, ret_real), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 10), 0);
	return fd;
}

static void be_bgpd_no_more(int fd, const char *real) {
	char path[96];
	snprintf(path, sizeof(path), "%s/bgpd.vty", dir);
	close(fd);
	assert_int_equal(rename(real, path), 0);
}

/* bgpd is told once to give its routes to a zebra that was started after it, and owes them to the next zebra again. */
static void test_routes_owed(void **state) {
	const char *one = "router bgp 65001\n address-family ipv6 unicast\n  network fd00::1/128\n";
	const char *two = "router bgp 65001\n address-family ipv6 unicast\n  network fd00::2/128\n";
	char owes[96], real[96], said[512] = "";
	int fd, status;
	OK(ensure("", one, &error));
	for (int i = 0; i < 1200 && !says("zebra", "show zebra client summary", "\nbgp "); i++)
		usleep(100000);
	snprintf(owes, sizeof(owes), "%s.conf/bgpd.owes", dir);
	for (int again = 0; again < 2; again++) {
		OK(write_file_atomic(owes, "first", 5, 0600, &error));
		fd = be_bgpd(real);
		pid_t agent = fork();
		if (agent == 0) {
			struct error e;
			_exit(ensure("", one, &e) < 0);
		}
		assert_true(agent > 0);
		assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 60000), 1);
		int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		assert_true(conn >= 0);
		/* Another process starts zebra again, while bgpd is told to give its routes to the one before. */
		if (again)
			OK(write_file_atomic(owes, "second", 6, 0600, &error));
		size_t len = 0;
		for (ssize_t n; (n = read(conn, said + len, sizeof(said) - 1 - len)) > 0;) {
			/* Each command ends in NUL; the next one comes after the answer. */
			len += (size_t)n;
			if (said[len - 1] == 0) {
				said[len - 1] = '\n';
				assert_int_equal(write(conn, "\0\0\0", 4), 4);
			}
		}
		said[len] = 0;
		close(conn);
		assert_int_equal(waitpid(agent, &status, 0), agent);
		assert_int_equal(status, 0);
		assert_non_null(strstr(said, "address-family ipv6 unicast\nno table-map none\n"));
		assert_int_equal(access(owes, F_OK), again ? 0 : -1);
		be_bgpd_no_more(fd, real);
	}
	/* A bgpd that hangs is waited for once. */
	fd = be_bgpd(real);
	patience_s = 1;
	assert_int_equal(ensure("", two, &error), -EAGAIN);
	patience_s = 0;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(conn >= 0);
	close(conn);
	assert_int_equal(accept4(fd, NULL, NULL, SOCK_CLOEXEC), -1);
	assert_int_equal(access(owes, F_OK), 0);
	be_bgpd_no_more(fd, real);
	OK(ensure("", two, &error));
	assert_int_equal(access(owes, F_OK), -1);
}

/* An agent of the version before started the daemons, with the lines in another order. No session may be reset. */
static void test_old_version(void **state) {
	struct frr f = {.netns = netns, .dir = dir};
	const struct prefix vtep = {.addr.family = AF_INET6, .addr.v6.s6_addr = {0xfd, [15] = 1}, .len = 128};
	_frrconf_free_ struct frrconf *c = NULL;
	char path[96];
	struct stat st, now;
	OK(frr_stop(&f, &error));
	OK(ensure("frr defaults datacenter\nno zebra nexthop kernel enable\n",
	          "frr defaults datacenter\n"
	          "bgp as-path access-list own permit ^$\n"
	          "router bgp 65001\n"
	          " coalesce-time 10\n"
	          " bgp router-id 1.1.1.1\n"
	          " no bgp default ipv4-unicast\n"
	          " bgp bestpath as-path multipath-relax\n"
	          " neighbor fabric peer-group\n"
	          " neighbor fabric remote-as external\n"
	          " neighbor fabric timers 1 3\n"
	          " neighbor fabric timers connect 1\n"
	          " neighbor fabric password x\n"
	          " neighbor eth0 interface peer-group fabric\n"
	          " address-family ipv6 unicast\n"
	          "  network fd00::1/128\n"
	          "  neighbor fabric activate\n"
	          "  neighbor fabric filter-list own out\n",
	          &error));
	/* Without the vty socket every command would fail. */
	snprintf(path, sizeof(path), "%s/bgpd.vty", dir);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/zebra.vty", dir);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s.conf/bgpd.conf", dir);
	assert_int_equal(stat(path, &st), 0);
	OK(frrconf_new(&c, FRRCONF_DATACENTER, &error));
	frrconf_as_path_list_permit(c, "own", 0, "^$");
	frrconf_bgp(c, &(struct frrconf_bgp){.asn = 65001, .router_id = 0x01010101, .coalesce_ms = 10});
	frrconf_neighbor(c, &(struct frrconf_neighbor){
				    .name = "fabric", .keepalive_s = 1, .hold_s = 3, .connect_s = 1, .password = "x"});
	frrconf_group_member(c, "fabric", "eth0");
	frrconf_network(c, &vtep);
	frrconf_activate(c, AF_INET6, "fabric", &(struct frrconf_activation){.as_path_list_out = "own"});
	pid_t z = pid_of("zebra"), b = pid_of("bgpd");
	OK(frr_ensure(&f, c, &error));
	assert_int_equal(pid_of("zebra"), z);
	assert_int_equal(pid_of("bgpd"), b);
	/* From now on the stored configuration has the new order. */
	assert_int_equal(stat(path, &now), 0);
	assert_int_not_equal(st.st_ino, now.st_ino);
	OK(frr_ensure(&f, c, &error));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_ino, now.st_ino);
	OK(frr_stop(&f, &error));
}

static void fill_peers(struct frrconf *c, uint32_t asn) {
	const struct prefix any = {.addr.family = AF_INET6};
	const char *const names[] = {"wan", "2001:db8::1"};
	frrconf_prefix_list_permit(c, "default6", 5, &any);
	frrconf_as_path_list_permit(c, "own", 5, "^$");
	frrconf_bgp(c, &(struct frrconf_bgp){.asn = 65001, .router_id = 0x01010101});
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		frrconf_neighbor(c, &(struct frrconf_neighbor){.kind = i ? FRRCONF_ADDRESS : FRRCONF_DEVICE,
		                                               .name = names[i],
		                                               .remote_asn = asn,
		                                               .keepalive_s = 1,
		                                               .hold_s = 3,
		                                               .connect_s = 1,
		                                               .extended_nexthop = true,
		                                               .password = "secret",
		                                               .ttl_security = true});
		frrconf_activate(c, AF_INET6, names[i],
		                 &(struct frrconf_activation){.prefix_list_in = "default6", .as_path_list_out = "own"});
	}
}

static void running_config(struct buf *out) {
	static const char *const commands[] = {"show running-config", NULL};
	struct frr f = {.netns = netns, .dir = dir};
	OK(frr_command(&f, "bgpd", commands, out, &error));
}

/* FRR forgets a neighbor whose AS number is removed. Afterwards its password and lists must be configured again. */
static void test_changed_neighbor(void **state) {
	struct frr f = {.netns = netns, .dir = dir};
	_frrconf_free_ struct frrconf *before = NULL, *after = NULL;
	_buf_free_ struct buf changed = {0}, started = {0};
	OK(frrconf_new(&before, FRRCONF_DATACENTER, &error));
	OK(frrconf_new(&after, FRRCONF_DATACENTER, &error));
	fill_peers(before, 64496);
	fill_peers(after, 64497);
	OK(frr_ensure(&f, before, &error));
	pid_t b = pid_of("bgpd");
	OK(frr_ensure(&f, after, &error));
	assert_int_equal(pid_of("bgpd"), b);
	running_config(&changed);
	OK(frr_stop(&f, &error));
	OK(frr_ensure(&f, after, &error));
	running_config(&started);
	assert_non_null(strstr(started.data, "neighbor wan filter-list own out"));
	assert_non_null(strstr(started.data, "neighbor 2001:db8::1 password secret"));
	assert_string_equal(changed.data, started.data);
	OK(frr_stop(&f, &error));
}

/* All characters that passwords may have are accepted, from the file and as a command. */
static void test_words(void **state) {
	struct frr f = {.netns = netns, .dir = dir};
	char all[96] = "", line[128];
	static const char *const passwords[] = {"|include", "!", "#", "?", "no", "\\", "a|grep"};
	for (int ch = '!'; ch <= '~'; ch++)
		all[ch - '!'] = (char)ch;
	all[BGP_PASSWORD_MAX] = 0;
	for (size_t i = 0; i <= ARRAY_SIZE(passwords); i++) {
		const char *password = i ? passwords[i - 1] : all;
		_frrconf_free_ struct frrconf *c = NULL;
		OK(frrconf_new(&c, FRRCONF_DATACENTER, &error));
		frrconf_bgp(c, &(struct frrconf_bgp){.asn = 65001, .router_id = 0x01010101});
		frrconf_neighbor(c, &(struct frrconf_neighbor){.kind = FRRCONF_ADDRESS,
		                                               .name = "2001:db8::1",
		                                               .hold_s = 3,
		                                               .connect_s = 1,
		                                               .password = password});
		/* The first password is read from the file. */
		OK(frr_ensure(&f, c, &error));
		snprintf(line, sizeof(line), " neighbor 2001:db8::1 password %s\n", password);
		assert_true(says("bgpd", "show running-config", line));
	}
	OK(frr_stop(&f, &error));
}

/* The number of processes with our directory in their arguments. */
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

/* A killed agent left a bgpd that gets no processor time for half a second. */
static void test_slow_to_start(void **state) {
	struct frr f = {.netns = netns, .dir = dir};
	char conf[96], pid[96], zserv[96], lock[96];
	int ready[2];
	snprintf(conf, sizeof(conf), "%s.late", dir);
	snprintf(pid, sizeof(pid), "%s/bgpd.pid", dir);
	snprintf(zserv, sizeof(zserv), "%s/zserv.api", dir);
	snprintf(lock, sizeof(lock), "%s.conf/bgpd.lock", dir);
	OK(ensure("", "router bgp 65001\n", &error));
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
	OK(ensure("", "router bgp 65002\n", &error));
	assert_true(says("bgpd", "show running-config", "router bgp 65002"));
	OK(frr_stop(&f, &error));
	/* The directory exists again; a daemon that is late would appear now. */
	OK(ensure("", "router bgp 65003\n", &error));
	OK(proc_stop(pid_of("bgpd"), 3000, &error));
	assert_int_equal(waitpid(late, NULL, 0), late);
	unlink(conf);
	OK(ensure("", "router bgp 65003\n", &error));
	assert_true(says("bgpd", "show running-config", "router bgp 65003"));
	OK(frr_stop(&f, &error));
	assert_int_equal(processes(), 0);
}

/* The agent is killed at some moment of the start. The next one finds a daemon that is still starting, or none. */
static void test_killed_while_starting(void **state) {
	struct frr f = {.netns = netns, .dir = dir};
	OK(frr_stop(&f, &error));
	for (unsigned ms = 0; ms < 60; ms += 3) {
		pid_t agent = fork();
		if (agent == 0) {
			struct error e;
			_exit(ensure("", "router bgp 65001\n", &e) < 0);
		}
		assert_true(agent > 0);
		usleep(ms * 1000);
		kill(agent, SIGKILL);
		assert_int_equal(waitpid(agent, NULL, 0), agent);
		OK(ensure("", "router bgp 65002\n", &error));
		assert_true(says("bgpd", "show running-config", "router bgp 65002"));
		OK(frr_stop(&f, &error));
		assert_int_equal(processes(), 0);
	}
}

static void test_bounded_log(void **state) {
	char path[96];
	struct stat st;
	snprintf(path, sizeof(path), "%s/bgpd.log", dir);
	assert_int_equal(truncate(path, 2 << 20), 0);
	OK(ensure("", "router bgp 65001\n", &error));
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 1 << 20);
}

int main(void) {
	const struct CMUnitTest live[] = {cmocka_unit_test(test_pair),
	                                  cmocka_unit_test(test_routes_owed),
	                                  cmocka_unit_test(test_bounded_log),
	                                  cmocka_unit_test(test_old_version),
	                                  cmocka_unit_test(test_changed_neighbor),
	                                  cmocka_unit_test(test_words),
	                                  cmocka_unit_test(test_hostile_frr),
	                                  cmocka_unit_test(test_slow_to_start),
	                                  cmocka_unit_test(test_killed_while_starting)};
	return geteuid() == 0 ? cmocka_run_group_tests(live, setup, teardown) : 0;
}
