"""Where the other programs live: one venv each, made on request by pip, found by the exact version of its package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class NotAvailable(RuntimeError):  # noqa: N818 - as in `rig.binaries`
    """The program cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One program: the folder of its venv, and the package and version that must be in it."""

    name: str
    package: str
    version: str

    @property
    def folder(self) -> Path:
        """Where its venv is, or will be."""
        return Path(os.environ.get("CAPSTAN_PEERS_CACHE") or "~/.cache/capstan").expanduser() / self.name

    @property
    def python(self) -> Path:
        """The interpreter of its venv."""
        return self.folder / "bin" / "python"

    @property
    def present(self) -> bool:
        """Whether the venv holds exactly that version; pip installs a package after what it needs, so it is whole."""
        info = f"lib/python3.*/site-packages/{self.package.replace('-', '_')}-{self.version}.dist-info/RECORD"
        return self.python.exists() and any(self.folder.glob(info))


DYNAMO = Peer("dynamo", "ai-dynamo", "1.4.2")  # 1.5 and later do not install from PyPI (facts/autoscalers.md section 4)
AICONFIGURATOR = Peer("aiconfigurator", "aiconfigurator-core", "0.12.0")
PEERS = {peer.name: peer for peer in (DYNAMO, AICONFIGURATOR)}


def python_of(peer: Peer) -> Path:
    """Return the interpreter of a peer that is there.

    Raises:
        NotAvailable: It is not.
    """
    if peer.present:
        return peer.python
    raise NotAvailable(
        f"{peer.package} {peer.version} is not in {peer.folder}; "
        f"`PYTHONPATH=e2e python -m rig.crosscheck install {peer.name}` puts it there"
    )


def install(peer: Peer, say: Callable[[str], None]) -> Path:
    """Make the venv of a peer unless it is there, and return its interpreter.

    Raises:
        NotAvailable: pip could not; the message has its last line.
    """
    if peer.present:
        return peer.python
    say(f"installing {peer.package}=={peer.version} into {peer.folder} …")
    peer.folder.parent.mkdir(parents=True, exist_ok=True)
    pip = (str(peer.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for step in (
        (sys.executable, "-m", "venv", "--clear", str(peer.folder)),
        (*pip, f"{peer.package}=={peer.version}"),
    ):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise NotAvailable(f"{peer.package}=={peer.version} could not be installed: {last}")
    return python_of(peer)
