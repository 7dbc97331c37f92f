# SPDX-License-Identifier: Apache-2.0
"""scripts/run-tests on small trees: what it reports of failed tests and of parts that break, hang or are interrupted,
and for which runs it records that the commit passed."""

import os
import re
import shutil
import signal
import subprocess

import pytest
from harness import MORTAL, ROOT, eventually, patient

BUILD_SCRIPT = """\
#!/bin/sh -e
# Stands for ./dev: `build` and `lint`.
[ "$1" = build ] || exit 0
[ "$2" = --sanitized ] && dir=build-asan || dir=build
[ ! -e meson.build ] || [ -e $dir/build.ninja ] || /usr/bin/meson setup $dir
"""

WELL = "def test_it():\n    pass\n"
FAILS = "def test_it():\n    assert not 'so it is'\n"
# Each run of the test is a new process, so a file records the earlier run.
FIRST_TIME_ONLY = """
import os

def test_it():
    seen = os.path.exists(__file__ + ".seen")
    open(__file__ + ".seen", "w").close()
    assert seen, "the first time"
"""
# Ends only when it is interrupted; then it undoes what it did.
FOR_EVER = """
import os
import subprocess

import pytest

@pytest.fixture
def made():
    child = subprocess.Popen(["sleep", "1000"])
    with open("made.new", "w") as f:
        f.write(f"{os.getpid()} {child.pid}")
    os.rename("made.new", "made")
    yield child
    child.kill()
    child.wait()
    os.rename("made", "undone")

def test_it(made):
    made.wait()
"""


class Tree:
    def __init__(self, directory):
        self.dir, self.tested = f"{directory}/tree", f"{directory}/tested"
        self.write("tests/pytest.ini", "[pytest]\n")
        self.write("dev", BUILD_SCRIPT, 0o755)
        self.write("scripts/guest-image.sh", "#!/bin/sh\n", 0o755)
        shutil.copy(f"{ROOT}/scripts/run-tests", f"{self.dir}/scripts/run-tests")

    def write(self, path, text, mode=0o644):
        path = f"{self.dir}/{path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)

    def read(self, path):
        with open(f"{self.dir}/{path}") as f:
            return f.read()

    def has(self, path):
        return os.path.exists(f"{self.dir}/{path}")

    def start(self, *args, **env):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("NACRE_", "PYTEST_"))}
        return subprocess.Popen([*MORTAL, "/usr/bin/python3", "scripts/run-tests", *args], cwd=self.dir, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env={**kept, "NACRE_TESTED": self.tested, "PYTHONDONTWRITEBYTECODE": "1", **env})

    def run(self, *args, **env):
        """Exit status and output."""
        with self.start(*args, **env) as p:
            return ended(p)

    def git(self, *args):
        who = "-c", "user.name=t", "-c", "user.email=t@example.org"
        return subprocess.run(["git", *who, *args], cwd=self.dir, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()

    def commit(self):
        """Returns the commit's name. A file of that name records that the commit passed."""
        if not self.has(".git"):
            self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a commit")
        return self.git("rev-parse", "HEAD")

    def stamps(self):
        return os.listdir(self.tested) if os.path.exists(self.tested) else []


def ended(p):
    try:
        said = p.communicate(timeout=patient(60))[0]
    finally:
        p.kill()
    return p.returncode, said


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_passes_the_second_time(tree):
    tree.write("tests/net/test_x.py", FIRST_TIME_ONLY)
    rc, said = tree.run("tests/net")
    assert rc == 0 and "1 passed, 0 failed" in said, said
    assert "FLAKY: tests/net/test_x.py::test_it: AssertionError: the first time" in said and "FAILED: " not in said


def test_fails_twice_or_may_not_be_run_again(tree):
    """Three folders in one run."""
    tree.write("tests/net/test_x.py", FAILS)
    tree.write("tests/api/test_x.py", FIRST_TIME_ONLY)
    tree.write("tests/e2e/test_4_leaks.py", FIRST_TIME_ONLY)
    rc, said = tree.run("tests/net", "tests/api", "tests/e2e")
    assert rc == 1 and "0 passed, 3 failed" in said and "FLAKY" not in said, said
    for name in ("net/test_x", "api/test_x", "e2e/test_4_leaks"):
        assert f"FAILED: tests/{name}.py::test_it: " in said
    assert tree.has("build/test-logs/tests-net-once-more.log")
    assert not tree.has("build/test-logs/tests-api-once-more.log") and not tree.has("build/test-logs/tests-e2e-once-more.log")


# Waits for the test of tests/controller.
AFTER_IT = """
import os
import time

def test_it():
    end = time.monotonic() + %f
    while not os.path.exists("it.ran"):
        assert time.monotonic() < end
        time.sleep(0.01)
"""


def test_tests_that_wait_keep_no_place_from_others(tree):
    """They run beside as many other parts as may run side by side."""
    others = [f"tests/x{n}" for n in range(max(2, os.cpu_count()) + 1)]
    for folder in others:
        tree.write(f"{folder}/test_x.py", AFTER_IT % patient(30))
    tree.write("tests/controller/test_x.py", "def test_it():\n    open('it.ran', 'w').close()\n")
    rc, said = tree.run(*others, "tests/controller")
    assert rc == 0, said


def test_e2e_is_two_parts(tree):
    """Each test of tests/e2e runs once, except for those that look whether anything is left of a lab."""
    tree.write("meson.build", "project('small')\ntest('unit', find_program('true'))\n")
    for name in ("test_1_x", "test_2_disturb"):
        tree.write(f"tests/e2e/{name}.py", WELL)
    tree.write("tests/e2e/test_4_leaks.py", "".join(f"def test_{name}():\n    pass\n" for name in ("it", "delete_instance", "lab_down_leaves_nothing")))
    rc, said = tree.run()
    assert rc == 0, said
    passed = {name: re.findall(r"::(\w+) PASSED", tree.read(f"build/test-logs/{name}.log")) for name in ("tests-e2e", "tests-e2e-disturbed")}
    assert passed == {"tests-e2e": ["test_it", "test_it", "test_delete_instance", "test_lab_down_leaves_nothing"],
                      "tests-e2e-disturbed": ["test_it", "test_delete_instance", "test_lab_down_leaves_nothing"]}


def test_no_results(tree):
    """An exit status 0 without results is a failure."""
    tree.write("tests/net/test_x.py", "import os\ndef test_it():\n    os._exit(0)\n")
    tree.write("build/test-logs/tests-net.xml", '<testsuite><testcase file="net/test_x.py" name="test_it"/></testsuite>')
    rc, said = tree.run("tests/net")
    assert rc == 1 and "0 passed, 1 failed" in said, said
    assert "FAILED: tests/net: pytest left no results" in said


def test_the_build_fails(tree):
    tree.write("dev", "#!/bin/sh\necho what the compiler said\nexit 1\n", 0o755)
    tree.write("tests/net/test_x.py", WELL)
    rc, said = tree.run("tests/net")
    assert rc == 1 and "what the compiler said" in said and "FAILED: build (gcc): exit status 1" in said, said
    assert "FAILED: tests/net: not run, for what it needs has failed" in said


def test_stamp(tree):
    """Only a commit whose whole test run passed is recorded."""
    tree.write("meson.build", "project('small')\ntest('unit', find_program('true'))\n")
    tree.write(".gitignore", "/build*\n")
    tree.write("tests/api/test_x.py", WELL)
    tree.commit()

    def leaves_none(status, *args):
        rc, said = tree.run(*args)
        assert rc == status and tree.stamps() == [], said

    for args in (["tests/api"], ["-k", "it"], ["--quick"]):
        leaves_none(0, *args)
    tree.write("new", "")
    leaves_none(0)
    os.unlink(f"{tree.dir}/new")
    for text, status in ((FAILS, 1),
                         # The tree changes while the test runs.
                         ("def test_it():\n    open('new', 'w').close()\n", 0),
                         # All tests of the folder are skipped.
                         ("import pytest\n\ndef test_it():\n    pytest.skip('no tool')\n", 0)):
        tree.write("tests/api/test_x.py", text)
        tree.commit()
        leaves_none(status)
    tree.write("tests/api/test_x.py", WELL)
    commit = tree.commit()
    rc, said = tree.run()
    assert rc == 0 and "\n3 passed, 0 failed" in said and tree.stamps() == [commit], said


def alive(pid):
    """The process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_interrupted(tree, number, status):
    """Interrupted parts undo what they made, and no process is left."""
    tree.write("tests/net/test_x.py", FOR_EVER)
    with tree.start("tests/net") as p:
        try:
            eventually("the test runs", 30, lambda: tree.has("made"), interval=0.02)
            pids = tree.read("made").split()
        finally:
            p.send_signal(number)
        rc, said = ended(p)
    assert rc == status and "FLAKY" not in said, said
    try:
        eventually("all is undone", 30, lambda: tree.has("undone") and not any(map(alive, pids)), interval=0.02)
    finally:
        for pid in filter(alive, pids):
            os.kill(int(pid), signal.SIGKILL)


def test_hangs(tree):
    """A part that takes too long is interrupted in the same way, and fails even if it then ends."""
    tree.write("tests/net/test_x.py", FOR_EVER)
    rc, said = tree.run("tests/net", NACRE_TEST_LIMIT_S="1.2")
    assert rc == 1 and "FAILED: tests/net: did not end within 0.02 minutes" in said, said
