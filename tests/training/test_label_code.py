"""Code graded by running given tests: only when asked for, and within limits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.log_builders import record
from turnout.training.labels import label_records
from turnout.training.labels.graders.code import is_tests
from turnout.training.labels.sandbox import CHILD, RunLimits, passes

QUICK = RunLimits(cpu_s=2, wall_s=5.0)
RIGHT = "Here it is:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."
WRONG = "```python\ndef double(x):\n    return x\n```"
ASSERTS = "assert double(2) == 4\nassert double(0) == 0"
TESTS = [
    ASSERTS,
    json.dumps({"test": ASSERTS}),
    json.dumps({"test_list": ASSERTS.split("\n")}),
    json.dumps({"test": "def check(candidate):\n    assert candidate(2) == 4", "entry_point": "double"}),
]


@pytest.mark.parametrize("tests", TESTS)
def test_code_is_right_when_it_passes_the_given_tests(tests: str):
    row = record(strong=RIGHT, weak=WRONG, reference=tests)
    (labelled,) = label_records([row], code_limits=QUICK).labelled
    label = labelled.label
    assert (label.labeller, label.strong_score, label.weak_score, label.match) == ("reference:code", 1.0, 0.0, 0)


@pytest.mark.parametrize("tests", TESTS)
def test_no_code_runs_unless_asked_for(tests: str, tmp_path: Path):
    mark = tmp_path / "ran"
    answer = f"```python\nopen({str(mark)!r}, 'w')\n```"
    result = label_records([record(strong=answer, weak=WRONG, reference=tests)])
    assert (result.unlabelled, mark.exists()) == ({"undecided": 1}, False)


def test_a_bare_body_is_put_under_the_prompt():
    prompt = 'def double(x):\n    """Double a number."""\n'
    row = record(prompt, strong="    return 2 * x\n", weak="    return x\n", reference=TESTS[3])
    (labelled,) = label_records([row], code_limits=QUICK).labelled
    assert (labelled.label.strong_score, labelled.label.weak_score) == (1.0, 0.0)


@pytest.mark.parametrize("reference", ["He can assert himself.", "42", '{"test": 3}', "x = 1", '{"assert": "x"}'])
def test_other_references_are_no_tests(reference: str):
    assert not is_tests(reference)


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "def f(:",
        "x = 'a' * (1 << 40)",
        "x = bytearray(1 << 30)",
        "while True: pass",
        "open('big', 'wb').write(b'x' * (2 << 20))",
        "files = [open(f'f{n}', 'w') for n in range(100)]",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.fork()",
        "import os; os.system('true')",
        "import os; os.kill(os.getppid(), 0)",
        "import socket; socket.socket()",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import ctypes; ctypes.CDLL(None)",
        "import os; assert os.environ.get('HOME') or os.environ.get('PATH')",
        "print('no word', end='')\nimport os; os._exit(0)",
        "def f():\n    return f()\nf()",
        "\ud800",
    ],
)
def test_code_beyond_its_limits_does_not_pass(code: str):
    assert not passes(code, "pass", RunLimits(cpu_s=1, wall_s=10, memory_bytes=256 << 20))


def test_code_within_its_limits_passes_in_a_folder_of_its_own():
    code = "import os\nopen('note', 'w').write('x')\nassert sorted(os.listdir()) == ['note', 'output']\nprint(1)"
    assert passes(code, "assert open('note').read() == 'x'", QUICK)


def test_code_that_sleeps_is_ended_by_the_clock():
    started = time.monotonic()
    assert not passes("import time; time.sleep(600)", "pass", RunLimits(wall_s=1.0))
    assert time.monotonic() - started < 60


def test_what_code_leaves_behind_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert passes("open('left', 'w').write('x')", "pass", QUICK)
    assert not list(tmp_path.iterdir())


def test_a_process_the_code_starts_dies_with_it(tmp_path: Path):
    # The audit hook refuses to fork; started without it, the child must still be killed with its group.
    script = tmp_path / "leader.py"
    script.write_text("import os, time\nprint(os.fork() or os.getpid(), flush=True)\ntime.sleep(600)\n")
    runner = (
        "import sys, os, turnout.training.labels.sandbox as sandbox\n"
        "from pathlib import Path\n"
        f"sandbox.CHILD = Path({str(script)!r})\n"
        f"output = open({str(tmp_path / 'pids')!r}, 'wb')\n"
        f"sandbox._run('', Path({str(tmp_path)!r}), output.fileno(), 1.0)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", runner], check=True, env=environment, timeout=120)
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_the_kernel_cuts_the_network_where_it_grants_a_namespace():
    probe = (
        f"import runpy, socket, sys\nchild = runpy.run_path({str(CHILD)!r})\n"
        "sys.stdout.write(str(child['cut_network']()))\n"
        "try:\n    socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2)\n    sys.stdout.write(' connected')\n"
        "except OSError:\n    sys.stdout.write(' refused')\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        ended = subprocess.run([sys.executable, "-c", probe, port], capture_output=True, text=True, timeout=120)
    if ended.stdout.startswith("False"):
        pytest.skip("this kernel grants no network namespace")
    assert ended.stdout == "True refused"
