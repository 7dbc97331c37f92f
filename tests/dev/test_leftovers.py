# SPDX-License-Identifier: Apache-2.0
"""What tests in C make is removed by the next run of tests if they are killed or fail (tests/lib/leftovers.py)."""

import os
import signal
import subprocess

import leftovers
import pytest
from harness import BIN, ROOT, until

SRC = os.path.dirname(BIN)


def start(program):
    return subprocess.Popen([f"{SRC}/{program}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_test_in_c_that_is_killed():
    """Killed with a guest's container running: namespaces, processes, control groups and a folder are left."""
    test = start("node/test-hypervisor")
    prefix, folder = f"tn{test.pid}-", f"/tmp/nacre-test-node-{test.pid}"
    try:
        until("a container runs", lambda: test.poll() is not None or (os.path.exists(f"{folder}/instances") and leftovers.cgroups(prefix)))
        leftovers.sweep()
        assert test.poll() is None and os.path.exists(folder), "what a running test has made stays"
    finally:
        test.send_signal(signal.SIGKILL)
        test.wait()
    assert os.path.exists(folder) and f"{prefix}public" in os.listdir("/run/netns")
    leftovers.sweep()
    assert not os.path.exists(folder) and not leftovers.cgroups(prefix)
    assert not [n for n in os.listdir("/run/netns") if n.startswith(prefix)]
    assert not os.path.exists(f"{leftovers.DIRECTORY}/{test.pid}")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_test_in_c_that_ends():
    """It leaves no record."""
    test = start("node/test-conntrack")
    assert test.wait(60) == 0
    assert not os.path.exists(f"{leftovers.DIRECTORY}/{test.pid}")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_test_in_c_that_fails(tmp_path):
    """An assertion that fails jumps over the removal of what was made."""
    folder = tmp_path / "made"
    source = tmp_path / "failing.c"
    source.write_text(f"""
        #include "base/testing.h"
        static void test(_unused_ void **state) {{
            test_claim("dir", "{folder}");
            assert_int_equal(mkdir("{folder}", 0755), 0);
            fail();
        }}
        int main(void) {{
            const struct CMUnitTest tests[] = {{cmocka_unit_test(test)}};
            return cmocka_run_group_tests(tests, NULL, NULL);
        }}
        """)
    program = tmp_path / "failing"
    subprocess.run(["cc", "-D_GNU_SOURCE", f"-I{ROOT}/src", "-o", program, source, f"{SRC}/base/libbase.a", "-lcmocka", "-lbsd",
                    "-lsystemd"], check=True)
    test = subprocess.Popen([program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert test.wait(60) == 1 and folder.exists()
    leftovers.sweep()
    assert not folder.exists()
    assert not os.path.exists(f"{leftovers.DIRECTORY}/{test.pid}")
