/* SPDX-License-Identifier: Apache-2.0 */
#include "node/kvmprobe.h"

#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/util.h"
#include "net/netns.h"
#include "node/instdir.h"
#include "node/part.h"
#include "vm/qemu.h"

#define NAME       "kvm-probe" /* name of the KVM machine's things; the other's end in "-tcg" */
#define ID         "00000000-0000-4000-8000-000000000000"
#define DISK_BYTES ((size_t)1 << 20)
#define MARGIN_MS  1000

/*
 * The boot sector. At 0x7c00 in real mode:
 *
 *      cli; ljmp $0,$1f; 1: segments = 0; sp = 0x7c00
 *      tables at 0x1000, 0x2000, 0x3000: the first 2 MiB as they are; cr3 = 0x1000
 *      lgdt; cr4 |= PAE; EFER |= LME; cr0 |= PG|PE; ljmp $8,$long
 *   long:
 *      cpuid; 100 times, for rcx = 100000 down to 1: rbx += rcx * rcx, stored and compared at 0x100000 + 8 rcx
 *      out $0x2000 to port 0x604 (ACPI's PM1a control register where SeaBIOS places it on q35: sleep state S5)
 *   stop: hlt; jmp stop
 */
/* clang-format off */
static const unsigned char boot_sector[512] = {
	0xfa, 0xea, 0x06, 0x7c, 0x00, 0x00, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00,
	0x7c, 0x66, 0xbf, 0x00, 0x10, 0x00, 0x00, 0x0f, 0x22, 0xdf, 0x66, 0x31, 0xc0, 0xb9, 0x00, 0x0c,
	0xfc, 0x66, 0xf3, 0xab, 0x66, 0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, 0x00, 0x00, 0x66, 0xc7, 0x06,
	0x00, 0x20, 0x03, 0x30, 0x00, 0x00, 0x66, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0x00, 0x00, 0x0f,
	0x01, 0x16, 0xd0, 0x7c, 0x0f, 0x20, 0xe0, 0x0c, 0x20, 0x0f, 0x22, 0xe0, 0x66, 0xb9, 0x80, 0x00,
	0x00, 0xc0, 0x0f, 0x32, 0x0d, 0x00, 0x01, 0x0f, 0x30, 0x0f, 0x20, 0xc0, 0x66, 0x0d, 0x01, 0x00,
	0x00, 0x80, 0x0f, 0x22, 0xc0, 0xea, 0x6a, 0x7c, 0x08, 0x00, 0xb8, 0x10, 0x00, 0x00, 0x00, 0x8e,
	0xd8, 0x8e, 0xd0, 0x31, 0xc0, 0x0f, 0xa2, 0xbf, 0x64, 0x00, 0x00, 0x00, 0xb9, 0xa0, 0x86, 0x01,
	0x00, 0x31, 0xdb, 0x48, 0x89, 0xc8, 0x48, 0xf7, 0xe1, 0x48, 0x01, 0xc3, 0x48, 0x89, 0x1c, 0xcd,
	0x00, 0x00, 0x10, 0x00, 0x48, 0x39, 0x1c, 0xcd, 0x00, 0x00, 0x10, 0x00, 0x75, 0x10, 0xe2, 0xe3,
	0xff, 0xcf, 0x75, 0xd8, 0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef, 0xf4, 0xeb,
	0xfd, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x92, 0x00, 0x00,
	0x17, 0x00, 0xb8, 0x7c,
	[510] = 0x55, 0xaa};
/* clang-format on */

/* The answer is valid for the same "BOOT-ID QEMU-MTIME". */
static int kvmprobe_make_key(char key[static 128], struct error *err) {
	_free_ char *boot = NULL;
	struct stat q;

	int r = read_file("/proc/sys/kernel/random/boot_id", 64, &boot, NULL, err);
	if (r < 0)
		return r;
	if (stat(QEMU_PROGRAM, &q) < 0)
		return error_errno(err, errno, "`%s`", QEMU_PROGRAM);
	snprintf(key, 128, "%.36s %lld", boot, (long long)q.st_mtime);
	return 0;
}

static int kvmprobe_keep(const char *cache, const char *key, const char *why, struct error *err) {
	_free_ char *text = strf("%s\n%s", key, why);

	return text ? write_file_atomic(cache, text, strlen(text), 0600, err) : error_oom(err);
}

/* 1: CACHE holds no answer. */
static int kvmprobe_look_up(const char *cache, const char *key, struct error *err) {
	_free_ char *text = NULL;
	size_t n = strlen(key);

	if (read_file(cache, 1024, &text, NULL, NULL) < 0 || strncmp(text, key, n) != 0 || text[n] != '\n')
		return 1;
	return text[n + 1] ? error_set(err, EOPNOTSUPP, "%s", text + n + 1) : 0;
}

/* One machine, and what was made for it. */
struct machine {
	enum vm_accel accel;
	char *dir, *state, *disk;
	char name[INSTNET_NAME_MAX]; /* of its network namespace and its control group */
	int pidfd;                   /* of its container; -1: none */
};

static void machine_done(struct machine *m) {
	free(m->dir);
	free(m->state);
	free(m->disk);
	safe_close(m->pidfd);
}

static int write_disk(const char *path, struct error *err) {
	_free_ unsigned char *bytes = calloc(1, DISK_BYTES);

	if (!bytes)
		return error_oom(err);
	memcpy(bytes, boot_sector, sizeof(boot_sector));
	return write_file_atomic(path, bytes, DISK_BYTES, 0644, err);
}

int kvmprobe_judge(const struct vm_status *end, struct error *err) {
	switch (end->end) {
	case VM_END_POWERED_OFF: return 0;
	/* QEMU itself reports a failure with KVM. */
	case VM_END_FAILED:
	case VM_END_CPU_FAILED: return error_set(err, EOPNOTSUPP, "KVM does not boot: %.300s", end->message);
	/* Something else has intervened. */
	case VM_END_NONE:
	case VM_END_STOPPED:
	case VM_END_KILLED:
	case VM_END_START_FAILED:
	case VM_END_OUT_OF_MEMORY:
	case VM_END_FORBIDDEN:
	case VM_END_FORBIDDEN_WRITE: break;
	}
	return error_set(err, EAGAIN, "the probe of KVM gave no answer: %.300s", end->message);
}

static int kvmprobe_boot(const struct kvmprobe_config *c, struct machine *p, struct error *err) {
	const struct part_host host = {.program = c->program, .cgroups = c->cgroups, .kvm = p->accel == VM_ACCEL_KVM};
	struct guest_result made = {0};
	struct guest_spec s;

	jt_init(&jt_guest_spec, &s);
	snprintf(s.vm.name, sizeof(s.vm.name), "nacre/" NAME);
	snprintf(s.vm.uuid, sizeof(s.vm.uuid), ID);
	s.size.v[RESOURCE_vcpus] = 2;
	s.size.v[RESOURCE_memory_mib] = 64;
	s.vm.boot = VM_BOOT_BIOS;
	s.vm.image_format = VM_FORMAT_RAW;
	snprintf(s.disk, sizeof(s.disk), "%s", p->disk);
	int r = mkdir_p(p->dir, 0700, err);
	if (r >= 0)
		r = write_disk(p->disk, err);
	if (r >= 0)
		r = netns_ensure(p->name, NULL, err);
	if (r < 0)
		return r;
	struct guest_look l = {.host = &host,
	                       .uid = ID,
	                       .name = p->name,
	                       .dir = p->dir,
	                       .state_dir = p->state,
	                       .user = c->uid,
	                       .spec = &s,
	                       .ret = &made};
	r = parts_start(&l, err);
	if (r < 0)
		return r;
	/* A machine that has ended already has reported the reason. */
	p->pidfd = (int)syscall(SYS_pidfd_open, made.pid, 0);
	return p->pidfd < 0 && errno != ESRCH ? error_errno(err, errno, "watch the probe") : 0;
}

/*
 * Waits for the end of one of the two machines, at most until UNTIL_NS. 1: KVM's machine has ended, 2: the other one,
 * 0: none.
 */
static int wait_for_end(const struct machine *kvm, const struct machine *tcg, uint64_t until_ns, struct error *err) {
	struct pollfd p[] = {{.fd = kvm->pidfd, .events = POLLIN}, {.fd = tcg->pidfd, .events = POLLIN}};
	int n;

	if (kvm->pidfd < 0)
		return 1;
	do {
		uint64_t now = now_monotonic_ns();
		n = poll(p, ARRAY_SIZE(p), now < until_ns ? (int)((until_ns - now) / NSEC_PER_MSEC) : 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_errno(err, errno, "poll");
	return n == 0 ? 0 : p[0].revents ? 1 : 2;
}

/* Says what the end of the machine means. */
static int kvmprobe_judge_machine(const struct machine *m, struct error *err) {
	struct vm_status end;

	instdir_end(m->dir, &end);
	return kvmprobe_judge(&end, err);
}

/*
 * Both machines do the same at the same time, so a busy host slows down both. Some kinds of KVM emulate a guest's
 * kernel code in software, a thousand times slower than QEMU; nothing would boot with them.
 */
static int kvmprobe_compare(const struct machine *kvm, struct machine *tcg, struct error *err) {
	uint64_t began = now_monotonic_ns(), until = began + KVMPROBE_MS * NSEC_PER_MSEC, took_ms = 0;
	struct error ignored;
	int r;

	while ((r = wait_for_end(kvm, tcg, until, err)) == 2) {
		tcg->pidfd = safe_close(tcg->pidfd);
		if (kvmprobe_judge_machine(tcg, &ignored) < 0)
			continue; /* This tells nothing about KVM. */
		took_ms = (now_monotonic_ns() - began) / NSEC_PER_MSEC;
		until = MIN(until, began + (2 * took_ms + MARGIN_MS) * NSEC_PER_MSEC);
	}
	if (r == 1)
		return kvmprobe_judge_machine(kvm, err);
	if (r == 0 && took_ms)
		return error_set(err, EOPNOTSUPP,
		                 "KVM is slower than software emulation: that booted the probe in %llu ms, KVM did not "
		                 "in %llu ms",
		                 (unsigned long long)took_ms, (unsigned long long)(2 * took_ms + MARGIN_MS));
	return r < 0 ? r : error_set(err, ETIMEDOUT, "the probe of KVM did not end in %d s", KVMPROBE_MS / 1000);
}

static int kvmprobe_clear_machine(const struct kvmprobe_config *c, const struct machine *m, struct error *err) {
	int r = container_kill(m->dir, err);

	if (r >= 0)
		r = netns_delete(m->name, err);
	if (r >= 0)
		r = cgroup_remove(c->cgroups, m->name, err);
	return r < 0 ? r : remove_tree(m->dir, err);
}

static int machine_init(struct machine *m, const struct kvmprobe_config *c, enum vm_accel accel, struct error *err) {
	const char *suffix = accel == VM_ACCEL_KVM ? "" : "-tcg";

	*m = (struct machine){.accel = accel, .pidfd = -1};
	m->dir = strf("%s/" NAME "%s", c->run_dir, suffix);
	m->state = m->dir ? strf("%s/state", m->dir) : NULL;
	m->disk = m->dir ? strf("%s/sector", m->dir) : NULL;
	if (!m->state || !m->disk)
		return error_oom(err);
	snprintf(m->name, sizeof(m->name), "%s" NAME "%s", c->prefix, suffix);
	return 0;
}

int kvmprobe_clear(const struct kvmprobe_config *c, struct error *err) {
	int r = 0;

	for (enum vm_accel a = VM_ACCEL_TCG; r >= 0 && a <= VM_ACCEL_KVM; a++) {
		_cleanup_(machine_done) struct machine m;
		r = machine_init(&m, c, a, err);
		/*
		 * The folder is made first and removed last. If there is no folder, a group of this name belongs to
		 * another agent.
		 */
		if (r >= 0 && access(m.dir, F_OK) == 0)
			r = kvmprobe_clear_machine(c, &m, err);
	}
	return r;
}

static int kvmprobe_run(const struct kvmprobe_config *c, struct error *err) {
	_cleanup_(machine_done) struct machine kvm = {.pidfd = -1}, tcg = {.pidfd = -1};
	struct error scratch;
	int r = machine_init(&kvm, c, VM_ACCEL_KVM, err);

	if (r >= 0)
		r = machine_init(&tcg, c, VM_ACCEL_TCG, err);
	if (r < 0)
		return r;
	r = kvmprobe_boot(c, &kvm, err);
	if (r >= 0)
		r = kvmprobe_boot(c, &tcg, err);
	if (r >= 0)
		r = kvmprobe_compare(&kvm, &tcg, err);
	int cleared = kvmprobe_clear(c, r < 0 ? &scratch : err);
	return r < 0 ? r : cleared;
}

int kvmprobe(const struct kvmprobe_config *c, struct error *err) {
	_free_ char *cache = strf("%s/kvm", c->run_dir);
	struct error why = {0};
	char key[128];

	if (!cache)
		return error_oom(err);
	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return error_set(err, EOPNOTSUPP, "`/dev/kvm` can't be used: %s", strerror(errno));
	int r = kvmprobe_clear(c, err);
	if (r >= 0)
		r = kvmprobe_make_key(key, err);
	if (r >= 0)
		r = kvmprobe_look_up(cache, key, err);
	if (r <= 0)
		return r;
	r = kvmprobe_run(c, &why);
	if (r < 0 && r != -EOPNOTSUPP)
		return error_set(err, why.code, "%s", why.msg);
	/* A step that found nothing to do leaves a message in WHY, so only a failure's message is kept. */
	int kept = kvmprobe_keep(cache, key, r < 0 ? why.msg : "", err);
	if (kept < 0)
		return kept;
	return r < 0 ? error_set(err, EOPNOTSUPP, "%s", why.msg) : 0;
}
