"""Child processes that never outlive the rig: own session, log and pid file each, stopped by id in reverse order.

Three nets, one under the other: `stop_all` on the way out (with-block, atexit, signal), the kernel's death signal
when this process is killed with -9 (`launch.py`), and `sweep`, which ends what pid files of an earlier run still
name. A process is never looked up by name; a recorded pid counts only while its start time is the recorded one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

LAUNCHER = Path(__file__).with_name("launch.py")
STOP_GRACE_S = 5.0  # an idle API server needs about 1 s to drain its watches
POLL_S = 0.03
LOG_TAIL_LINES = 5


Ready = Callable[[], bool]


class ChildError(RuntimeError):
    """A child ended, or did not become ready; the message ends with the last lines of its log."""


@dataclass(slots=True)
class Child:
    """One supervised process.

    `started` is its start time in clock ticks since boot: with the pid, its identity.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    popen: subprocess.Popen[bytes]
    started: int
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    @property
    def pid(self) -> int:
        """Process id, which is the id of its group and session too."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.popen.returncode is None and not _has_exited(self.pid)

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Return the last lines of its log, for a message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Supervisor:
    """Starts, watches and stops the processes of one folder (`<folder>/log`, `<folder>/pids`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: dict[str, Child] = {}
        self._owner = os.getpid()
        for sub in ("log", "pids"):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        atexit.register(self.stop_all)

    def start(
        self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Child:
        """Start `argv` as `name`; its output goes to `<folder>/log/<name>.log`.

        Args:
            name: Unique among the living; a dead child of that name is replaced and its log continued.
            argv: Program and arguments.
            env: Variables on top of our own environment.
            cwd: Working folder; ours by default.
        """
        old = self.children.get(name)
        if old is not None and old.alive:
            raise ChildError(f"{name} runs already, as pid {old.pid}")
        words = tuple(map(str, argv))
        log = self.folder / "log" / f"{name}.log"
        popen = _spawn((sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *words), log, env or {}, cwd)
        child = Child(name, words, log, popen, start_ticks(popen.pid) or 0, dict(env or {}), cwd)
        self.children.pop(name, None)  # a restarted child goes to the end: it is stopped first
        self.children[name] = child
        self._pid_file(name).write_text(json.dumps({"pid": child.pid, "started": child.started}))
        return child

    def restart(self, name: str) -> Child:
        """Start a child again as it was started before, ending it first where it still runs."""
        self.stop(name)
        old = self.children[name]
        return self.start(name, old.argv, env=old.env, cwd=old.cwd)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a child's whole group (SIGKILL, SIGSTOP and SIGCONT are what tests ask for)."""
        _signal_group(self.children[name].pid, number)

    def stop(self, name: str, grace_s: float = STOP_GRACE_S) -> None:
        """End one child: SIGTERM, after `grace_s` SIGKILL, and whatever its group still holds."""
        self._end([self.children[name]], grace_s)

    def stop_all(self, grace_s: float = STOP_GRACE_S) -> None:
        """End all children, last started first. Safe to call twice; does nothing in a forked copy of us."""
        if os.getpid() != self._owner:
            return
        for child in reversed(list(self.children.values())):
            self._end([child], grace_s)
        self.children.clear()
        atexit.unregister(self.stop_all)

    def check(self) -> None:
        """Raise ChildError when any child has ended on its own."""
        for child in self.children.values():
            if not child.alive:
                raise ChildError(f"{child.name} ended; {child.log} ends with:\n{child.tail()}")

    def wait_until(self, ready: Ready, what: str, timeout_s: float = 30) -> None:
        """Poll `ready` until it is true.

        Raises:
            ChildError: A child ended meanwhile, or `timeout_s` passed.
        """
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline_s:
                raise ChildError(f"{what}: not after {timeout_s:g} s; logs are in {self.folder / 'log'}")
            time.sleep(POLL_S)

    def _end(self, children: list[Child], grace_s: float) -> None:
        for child in children:
            if child.popen.returncode is None:
                end_group(child.pid, grace_s)
                child.popen.wait()
            self._pid_file(child.name).unlink(missing_ok=True)

    def _pid_file(self, name: str) -> Path:
        return self.folder / "pids" / f"{name}.json"


def sweep(folder: Path) -> list[str]:
    """End what the pid files under `folder` name and what still is that process; return the names."""
    ended = []
    for file in sorted((folder / "pids").glob("*.json")):
        record = json.loads(file.read_text())
        if record["started"] and start_ticks(record["pid"]) == record["started"]:
            _signal_group(record["pid"], signal.SIGKILL)
            ended.append(file.stem)
        file.unlink()
    return ended


def start_ticks(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None where there is no such process.

    Source: proc(5), field 22 of /proc/PID/stat; the command name before it may hold spaces and brackets.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def end_group(pid: int, grace_s: float) -> None:
    """End a child of ours and its group; it is left to be reaped, so that its id cannot be reused meanwhile."""
    _signal_group(pid, signal.SIGTERM)
    _signal_group(pid, signal.SIGCONT)  # a stopped process would never hear the first
    deadline_s = time.monotonic() + grace_s
    while not _has_exited(pid) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    _signal_group(pid, signal.SIGKILL)


def exit_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into SystemExit, so that with-blocks and atexit end the children.

    SIGINT becomes KeyboardInterrupt even where the shell that started us in the background had it ignored.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _has_exited(pid: int) -> bool:
    """Return whether a child of ours is a zombie (or reaped), without reaping it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


@dataclass(slots=True)
class _Order:
    """One request to the spawning thread and its answer."""

    make: Callable[[], subprocess.Popen[bytes]]
    done: threading.Event = field(default_factory=threading.Event)
    popen: subprocess.Popen[bytes] | None = None
    error: BaseException | None = None


_orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
_spawner_lock = threading.Lock()
_spawners: list[threading.Thread] = []


def _spawn(argv: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path | None) -> subprocess.Popen[bytes]:
    """Start a process from the one thread that lasts as long as we do.

    The kernel sends the death signal when the *thread* that forked ends, not the process: a child started from a
    worker thread of asyncio would die with that worker.
    """

    def make() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **env},
                cwd=cwd,
                start_new_session=True,
            )

    with _spawner_lock:
        if not _spawners or not _spawners[0].is_alive():  # dead in a forked copy of us
            _spawners[:] = [threading.Thread(target=_serve_orders, name="rig-spawner", daemon=True)]
            _spawners[0].start()
    order = _Order(make)
    _orders.put(order)
    order.done.wait()
    if order.error is not None:
        raise order.error
    assert order.popen is not None
    return order.popen


def _serve_orders() -> None:
    while True:
        order = _orders.get()
        try:
            order.popen = order.make()
        except OSError as error:
            order.error = error
        order.done.set()
