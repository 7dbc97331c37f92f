# SPDX-License-Identifier: Apache-2.0
"""System calls that QEMU and nacre-vm can't make. src/vm/test-filter.c tries them one by one; these tests use real
guests."""

import ctypes
import os
import re
import struct

import pytest
from harness import ROOT
from nodelib import GROUP, cloud, images, until  # noqa: F401 (two are fixtures)

QEMU = "qemu-system-x86_64"
PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_ATTACH, PTRACE_DETACH, WALL = 12, 13, 16, 17, 0x40000000
SYS_SOCKET, SYS_SCHED_GET_PRIORITY_MIN, SYS_FALLOCATE = 41, 147, 285
AF_NETLINK, FALLOC_FL_KEEP_SIZE = 16, 1
RAX, RDX, RSI, RDI, ORIG_RAX, RIP = 10, 12, 13, 14, 15, 16  # in struct user_regs_struct, <sys/user.h>

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, pid, data=None):
    assert libc.ptrace(request, pid, None, data) == 0, os.strerror(ctypes.get_errno())


def redirect(pid, number, args):
    """False: the process is in no system call now."""
    regs = ctypes.create_string_buffer(27 * 8)
    ptrace(PTRACE_ATTACH, pid)
    os.waitpid(pid, WALL)
    try:
        ptrace(PTRACE_GETREGS, pid, regs)
        r = list(struct.unpack("27Q", regs.raw))
        with open(f"/proc/{pid}/mem", "rb") as f:
            f.seek(r[RIP] - 2)
            if f.read(2) != b"\x0f\x05":  # syscall
                return False
        r[RIP] -= 2
        r[RAX], r[ORIG_RAX] = number, 2**64 - 1
        for where, value in zip((RDI, RSI, RDX), args):
            r[where] = value
        ptrace(PTRACE_SETREGS, pid, ctypes.create_string_buffer(struct.pack("27Q", *r)))
        return True
    finally:
        ptrace(PTRACE_DETACH, pid)


def make_it_call(pid, number, *args):
    """Makes the first thread of process PID call this instead of the system call in which it waits."""
    until("it waits in a system call", lambda: redirect(pid, number, args))


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return {k: v.strip() for k, _, v in (line.partition(":") for line in f)}


@pytest.fixture(scope="module")
def guest(cloud):
    with open(f"{cloud.images}/idle", "wb") as f:
        f.write(b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512))
    cloud.post(f"{GROUP}/images", "Image", "idle", {"disk": {"file": "idle", "format": "raw", "firmware": "bios"}})
    cloud.create("idle", "idle")
    yield cloud.wait("idle", "Running")
    cloud.delete("idle")


def processes(guest, but=()):
    """The pids of nacre-vm and QEMU, when both run and neither is in BUT."""
    def both():
        pids = [*guest.init(), *guest.pids(QEMU)]
        return pids if len(pids) == 2 and not set(pids) & set(but) else None

    return until("nacre-vm and QEMU run", both)


def test_nacre_vm_has_next_to_nothing(guest):
    s = status(processes(guest)[0])
    assert s["Seccomp"] == "2" and s["NoNewPrivs"] == "1" and int(s["CapEff"], 16) == int(s["CapPrm"], 16) == 1 << 5


@pytest.mark.parametrize("call", [(SYS_SOCKET, AF_NETLINK, 3, 0), (SYS_FALLOCATE, 0, FALLOC_FL_KEEP_SIZE, 0)],
                         ids=["socket", "fallocate"])
def test_a_forbidden_call_of_qemu_is_its_end(cloud, guest, call):
    def told():
        return [m for r, m in cloud.events("idle") if r == "ForbiddenCall"]

    pids, before = processes(guest), len(told())
    make_it_call(pids[1], *call)
    until("nothing of it lingers", lambda: not os.path.exists(f"/proc/{pids[1]}"))
    messages = until("an event says so", lambda: told()[before:])
    assert "system call" in messages[0]
    processes(guest, pids)


def test_a_forbidden_call_of_nacre_vm_is_its_end(cloud, guest):
    pids = processes(guest)
    cloud.wait("idle", "Running")
    # If the call were allowed, its result 0 would mean to the loop that nothing happened.
    make_it_call(pids[0], SYS_SCHED_GET_PRIORITY_MIN, 0)
    until("nothing of it lingers", lambda: not [p for p in pids if os.path.exists(f"/proc/{p}")])
    processes(guest, pids)


def test_the_probe_of_kvm_does_what_it_should(cloud):
    """The probe's boot sector, as an instance under software emulation: it runs to its end and powers off."""
    with open(f"{ROOT}/src/node/kvmprobe.c") as f:
        (text,) = re.findall(r"boot_sector\[512\] = \{(.*?)\[510\]", f.read(), re.S)
    code = bytes(int(b, 16) for b in re.findall(r"0x([0-9a-f]{2})", text))
    with open(f"{cloud.images}/probe", "wb") as f:
        f.write(code.ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512))
    cloud.post(f"{GROUP}/images", "Image", "probe", {"disk": {"file": "probe", "format": "raw", "firmware": "bios"}})
    cloud.create("probe", "probe")
    until("it powered off", lambda: [m for r, m in cloud.events("probe") if r == "PoweredOff"])
    cloud.delete("probe")
