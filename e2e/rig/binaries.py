"""Finds the programs of the rig, or has them built: KUBEBUILDER_ASSETS, PATH, our cache, a build from Go modules.

Who calls it: `controlplane`, `python -m rig which|build`, the integration tests (which never build).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rig import build, tools
from rig.build import NotAvailable
from rig.tools import TOOLS, Tool

__all__ = ["Binary", "NotAvailable", "cache_folder", "find"]

ASK_TIMEOUT_S = 20  # a cold 100 MB binary on a busy disk


@dataclass(frozen=True, slots=True)
class Binary:
    """One program: where it is, where it came from, which version it says it is."""

    name: str
    path: Path
    source: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.source}: {self.path})"


def cache_folder() -> Path:
    """Return the folder of built binaries; `CAPSTAN_RIG_CACHE` moves it."""
    return Path(os.environ.get("CAPSTAN_RIG_CACHE") or "~/.cache/capstan/rig/bin").expanduser()


def find(names: Iterable[str] = TOOLS, *, may_build: bool = True) -> dict[str, Binary]:
    """Return every named program, building what is not to be found.

    Args:
        names: Keys of `tools.TOOLS`.
        may_build: Whether to build; a first build of everything takes 15-20 minutes and says so on the screen.

    Raises:
        NotAvailable: One line that says what is missing and what to install.
    """
    wanted = [TOOLS[name] for name in TOOLS if name in set(names)]
    found = {tool.name: _look(tool) for tool in wanted}
    missing = [tool for tool in wanted if found[tool.name] is None]
    if missing:
        found |= _fill_cache(missing, may_build=may_build)
    return {name: binary for name, binary in found.items() if binary is not None}


def _look(tool: Tool) -> Binary | None:
    """Return a program from KUBEBUILDER_ASSETS (whatever its version: someone chose it), PATH, or the cache."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (version := _ask(tool, Path(assets) / tool.name)):
        return _binary(tool, Path(assets) / tool.name, "KUBEBUILDER_ASSETS", version)
    on_path = shutil.which(tool.name)
    if on_path and (version := _ask(tool, Path(on_path))) and tool.accepts(version, tool.version):
        return _binary(tool, Path(on_path), "PATH", version)
    if build.is_current(tool, cache_folder()):
        return _binary(tool, cache_folder() / tool.name, "cache", tool.version)
    return None


def _fill_cache(missing: list[Tool], *, may_build: bool) -> dict[str, Binary | None]:
    """Adopt or build what is missing, one rig at a time."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / ".lock"):
        # Another rig may have built it while we waited; one built by hand counts when it says the pinned version.
        to_build = [tool for tool in missing if not build.is_current(tool, cache) and not _adopt(tool, cache)]
        if to_build and not may_build:
            names = ", ".join(tool.name for tool in to_build)
            raise NotAvailable(f"{names}: not here, or built from other pins; run `make rig-binaries` once")
        build.build(to_build, cache)
    fresh = {tool.name for tool in to_build}
    return {t.name: _binary(t, cache / t.name, "built" if t.name in fresh else "cache", t.version) for t in missing}


def _adopt(tool: Tool, cache: Path) -> bool:
    if build.stamped(tool, cache) or _ask(tool, cache / tool.name) != tool.version:
        return False
    build.stamp(tool, cache)
    return True


def _ask(tool: Tool, path: Path) -> tools.Version | None:
    """Return the version that a program says it is; None where it is not there or does not answer."""
    if not os.access(path, os.X_OK):
        return None
    try:
        done = subprocess.run(
            [path, *tool.version_args], capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tools.parse_version(done.stdout + done.stderr)


def _binary(tool: Tool, path: Path, source: str, version: tools.Version) -> Binary:
    # Not resolve(): a snap's or a dispatcher's symlink must be called by its own name.
    return Binary(tool.name, path.absolute(), source, "v" + ".".join(map(str, version)))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the kernel drops it with the process, so a crash leaves no stale lock."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            build.say("another rig is building; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
