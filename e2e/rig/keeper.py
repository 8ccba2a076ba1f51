"""A rig that stays up after the command that started it: a keeper process owns it and writes `rig.json`.

Who calls it: `python -m rig up --detach` and `down`. The keeper is an ordinary `python -m rig up` in a session of its
own; killing it ends the rig too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rig import process

STATE = "rig.json"
UP_TIMEOUT_S = 120  # twice what one component may take
DOWN_TIMEOUT_S = 20
LOG_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class State:
    """What a keeper says of its rig. `pid` and `started` are its identity; `prometheus` is empty without one."""

    pid: int
    started: int
    kubeconfig: str
    prometheus: str
    server: str
    holds: str

    @classmethod
    def of_this_process(cls, *, kubeconfig: Path, prometheus: str, server: str, holds: str) -> State:
        """Return the state of a rig that this process keeps."""
        pid = os.getpid()
        return cls(pid, process.start_ticks(pid) or 0, str(kubeconfig), prometheus, server, holds)

    def write(self, folder: Path) -> None:
        """Publish it: from now on the rig counts as up."""
        (folder / STATE).write_text(json.dumps(asdict(self), indent=1))


def living(folder: Path) -> State | None:
    """Return what the keeper of a folder wrote, if that keeper still runs."""
    try:
        state = State(**json.loads((folder / STATE).read_text()))
    except (OSError, ValueError, TypeError):  # none, half written (the next look sees it whole), or of another release
        return None
    return state if process.start_ticks(state.pid) == state.started else None


def leave(folder: Path, arguments: Sequence[str]) -> State:
    """Start `python -m rig <arguments>` as keeper and return its state once its rig is up.

    Raises:
        process.ChildError: It ended or took too long (it is ended then); the message holds the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "keeper.log"
    package = str(Path(__file__).parents[1])
    with log.open("wb") as out:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "rig", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": package},
        )
    try:
        state = _wait(folder, keeper)
    except BaseException:
        process.end_group(keeper.pid, DOWN_TIMEOUT_S)
        keeper.wait()
        raise
    if state is None:
        process.end_group(keeper.pid, DOWN_TIMEOUT_S)
        keeper.wait()
        end_of_log = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        raise process.ChildError(f"it did not come up; {log} ends with:\n{end_of_log}")
    return state


def end(folder: Path) -> bool:
    """End the rig of a folder and whatever a crashed one left; return whether there was anything to end."""
    state = living(folder)
    if state is not None:
        _end_keeper(state)
    left = process.sweep(folder)
    (folder / STATE).unlink(missing_ok=True)
    return state is not None or bool(left)


def retire(folder: Path) -> None:
    """Take the state back: called by the keeper before it stops its rig."""
    (folder / STATE).unlink(missing_ok=True)


def _wait(folder: Path, keeper: subprocess.Popen[bytes]) -> State | None:
    deadline_s = time.monotonic() + UP_TIMEOUT_S
    while keeper.poll() is None and time.monotonic() < deadline_s:
        if (state := living(folder)) is not None:
            return state
        time.sleep(process.POLL_S)
    return None


def _end_keeper(state: State) -> None:
    """Ask the keeper to end its rig; past the deadline it is killed, and its children with it by the kernel."""
    os.kill(state.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + DOWN_TIMEOUT_S
    while process.start_ticks(state.pid) == state.started:
        if time.monotonic() > deadline_s:
            os.kill(state.pid, signal.SIGKILL)
            return
        time.sleep(process.POLL_S)
