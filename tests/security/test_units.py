# SPDX-License-Identifier: Apache-2.0
"""The unit files: a daemon is always started again, whatever ends it and however often."""

import glob
import os
import re
import shutil

import pytest
from harness import BIN, ROOT, output, run

UNITS = sorted(glob.glob(f"{ROOT}/deploy/systemd/*.service"))


def parse(path):
    """{section: {key: [values]}}; systemd.syntax(7) without continued lines, which our files don't have."""
    sections, section = {}, None
    with open(path) as f:
        for line in f.read().splitlines():
            if re.fullmatch(r"\[\w+\]", line):
                section = sections.setdefault(line[1:-1], {})
            elif line and line[0] not in "#;":
                assert not line.endswith("\\"), line
                key, value = line.split("=", 1)
                section.setdefault(key, []).append(value)
    return sections


def test_all_daemons_have_a_unit():
    assert [os.path.basename(u) for u in UNITS] == [f"nacre-{p}.service" for p in ("apiserver", "controller", "edge", "lb", "node")]


@pytest.mark.parametrize("path", UNITS, ids=os.path.basename)
def test_started_again_for_ever(path):
    unit = parse(path)
    # systemd.unit(5): by default the fifth start within ten seconds is the last. The option belongs to [Unit].
    assert unit["Unit"].get("StartLimitIntervalSec") == ["0"]
    assert "StartLimitBurst" not in unit["Unit"] and not any(k.startswith("StartLimit") for k in unit["Service"])
    assert unit["Service"].get("Restart") == ["always"]
    # The delay is neither a busy loop (the default is 100 ms) nor an outage.
    assert 1 <= int(unit["Service"].get("RestartSec", ["0"])[0]) <= 5
    assert not {"RestartPreventExitStatus", "RestartForceExitStatus", "RestartMode"} & set(unit["Service"])


@pytest.mark.parametrize("path", UNITS, ids=os.path.basename)
def test_options_are_known(path):
    (command,) = parse(path)["Service"]["ExecStart"]
    program, *words = command.split()
    known = set(re.findall(r"^  (--[\w-]+)", output(f"{BIN}/{os.path.basename(program)}", "--help"), re.M))
    with open(path) as f:
        in_comments = re.findall(r"--[\w-]+", "".join(line for line in f if line.startswith("#")))
    used = {w.split("=")[0] for w in words if w.startswith("--")} | set(in_comments)
    assert used and used <= known, used - known


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
@pytest.mark.parametrize("path", UNITS, ids=os.path.basename)
def test_systemd_understands(path, tmp_path):
    copy = tmp_path / os.path.basename(path)
    with open(path) as f:
        copy.write_text(f.read().replace("ExecStart=/usr/sbin/", f"ExecStart={BIN}/"))
    p = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy), check=False)
    assert p.returncode == 0 and copy.name not in p.stderr, p.stderr
