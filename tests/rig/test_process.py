"""Nothing that the rig starts outlives it, and nothing that it did not start is ever ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import process
from support import rig

SLEEP = ["sleep", "1000"]


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[process.Supervisor]:
    """A supervisor that is stopped after the test."""
    made = process.Supervisor(tmp_path)
    yield made
    made.stop_all()


def gone(pid: int) -> bool:
    """Whether no process of this id runs (a zombie counts as gone)."""
    return process.start_ticks(pid) is None


def run_parent(folder: Path, ending: str) -> subprocess.Popen[str]:
    """Start a Python program that starts `sleep` under a supervisor, prints its pid, and ends as `ending` says."""
    body = f"""
        import os, signal, sys, time
        from pathlib import Path
        from rig import process
        supervisor = process.Supervisor(Path({str(folder)!r}))
        print(supervisor.start("sleeper", ["sleep", "1000"]).pid, flush=True)
        {ending}
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(process.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(body)], stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize(
    ("ending", "how"),
    [
        ("time.sleep(1000)", signal.SIGKILL),
        ("time.sleep(1000)", signal.SIGTERM),
        ("process.exit_on_signals(); time.sleep(1000)", signal.SIGHUP),
        ("process.exit_on_signals(); time.sleep(1000)", signal.SIGINT),
        ("pass", None),
        ("os._exit(3)", None),
    ],
    ids=["kill -9", "terminated without a handler", "hung up", "ctrl-c", "ended by itself", "died without cleaning up"],
)
def test_a_child_is_gone_however_its_parent_ends(tmp_path: Path, ending: str, how: signal.Signals | None) -> None:
    parent = run_parent(tmp_path, ending)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        if how is not None:
            assert not gone(child)
        rig.eventually(lambda: _signalled(parent, how) and gone(child), "the child's end", timeout_s=5)
    finally:
        parent.kill()
        parent.communicate()


def _signalled(parent: subprocess.Popen[str], how: signal.Signals | None) -> bool:
    """Send the signal, again if need be: it may be ignored (nohup) until the parent has its handler."""
    if how is not None and parent.poll() is None:
        parent.send_signal(how)
    return True


def test_a_child_survives_the_thread_that_asked_for_it(supervisor: process.Supervisor) -> None:
    """The kernel's death signal belongs to the forking thread: the trap behind `asyncio.to_thread`."""
    thread = threading.Thread(target=lambda: supervisor.start("sleeper", SLEEP))
    thread.start()
    thread.join()
    child = supervisor.children["sleeper"]
    supervisor.start("later", ["true"])  # gives the kernel time to have sent it
    supervisor.children["later"].popen.wait()
    assert child.alive


def test_stopping_ends_what_the_child_started_too(supervisor: process.Supervisor, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    supervisor.start("family", ["sh", "-c", f"sleep 1000 & echo $! > {note}; trap '' TERM; wait; wait"])
    rig.eventually(lambda: note.exists() and note.read_text().endswith("\n"), "the grandchild's pid")
    supervisor.stop("family", grace_s=0.2)
    assert gone(int(note.read_text()))
    assert not supervisor.children["family"].alive


def test_a_stopped_or_deaf_process_is_killed_after_its_grace(supervisor: process.Supervisor) -> None:
    child = supervisor.start("deaf", ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"])
    rig.eventually(lambda: "deaf" in child.tail(), "the trap being set")
    supervisor.signal("deaf", signal.SIGSTOP)
    supervisor.stop("deaf", grace_s=0.1)
    assert child.popen.returncode == -signal.SIGKILL


def test_children_end_last_started_first(supervisor: process.Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    for name in ("store", "server"):
        script = f"trap 'echo {name} >> {order}; exit' TERM; echo up; while :; do sleep 0.02; done"
        supervisor.start(name, ["sh", "-c", script])
    children = supervisor.children.values()
    rig.eventually(lambda: all("up" in child.tail() for child in children), "the traps being set")
    supervisor.stop_all()
    assert order.read_text().split() == ["server", "store"]


def test_a_child_that_ends_is_reported_with_the_end_of_its_log(supervisor: process.Supervisor) -> None:
    supervisor.start("server", ["sh", "-c", "echo flag provided but not defined; exit 2"])
    with pytest.raises(process.ChildError, match=r"(?s)server ended.*flag provided but not defined"):
        supervisor.wait_until(lambda: False, "server ready", timeout_s=5)


def test_waiting_ends_at_its_deadline_and_names_what_was_awaited(supervisor: process.Supervisor) -> None:
    supervisor.start("server", SLEEP)
    with pytest.raises(process.ChildError, match=r"server ready: not after 0.1 s"):
        supervisor.wait_until(lambda: False, "server ready", timeout_s=0.1)


def test_a_program_that_is_not_there_is_named(supervisor: process.Supervisor) -> None:
    supervisor.start("server", ["no-such-server"])
    with pytest.raises(process.ChildError, match="no-such-server: No such file"):
        supervisor.wait_until(lambda: False, "server ready", timeout_s=5)


def test_a_restart_keeps_the_command_and_its_environment(supervisor: process.Supervisor) -> None:
    child = supervisor.start("echo", ["sh", "-c", "echo $GREETING; exec sleep 1000"], env={"GREETING": "hello"})
    rig.eventually(lambda: child.tail() == "hello", "the first greeting")
    again = supervisor.restart("echo")
    rig.eventually(lambda: again.tail() == "hello\nhello", "the second greeting")
    assert again.pid != child.pid


def test_two_living_children_cannot_share_a_name(supervisor: process.Supervisor) -> None:
    first = supervisor.start("server", SLEEP)
    with pytest.raises(process.ChildError, match=f"server runs already, as pid {first.pid}"):
        supervisor.start("server", SLEEP)


def test_sweeping_ends_a_recorded_process_and_spares_a_reused_pid(tmp_path: Path) -> None:
    """A pid file of a crashed run may name a process that is somebody else's by now: its start time tells."""
    ours, foreign = (subprocess.Popen(SLEEP, start_new_session=True) for _ in range(2))
    try:
        (tmp_path / "pids").mkdir()
        for name, popen, error in (("ours", ours, 0), ("foreign", foreign, 1)):
            started = (process.start_ticks(popen.pid) or 0) + error
            (tmp_path / "pids" / f"{name}.json").write_text(json.dumps({"pid": popen.pid, "started": started}))
        assert process.sweep(tmp_path) == ["ours"]
        assert ours.wait(timeout=5) == -signal.SIGKILL
        assert foreign.poll() is None
        assert list((tmp_path / "pids").iterdir()) == []
    finally:
        for popen in (ours, foreign):
            popen.kill()
            popen.wait()
