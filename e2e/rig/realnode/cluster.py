"""The one-node cluster of `../shared/tier3` (etcd to kubelet, all real): its scripts, and kubectl and Helm against it.

Who calls it: `site` and the tests. It needs root, and changes mounts, cgroups and firewall chains of the machine until
`down.sh` takes them back; so it is only started where no other kubelet runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig import binaries

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT.parent / "shared" / "tier3"
NODE = "tier3-node"
KUBELET_PORT = 10250  # of every kubelet, this one's too
UP_S = 2400.0  # a first start builds a kubelet from source: 21 minutes on two cores that do other things
ASK_S = 180.0  # one kubectl or Helm call, waits included
Document = Mapping[str, Any]


class NotHereError(RuntimeError):
    """This machine cannot run it; the message is the one line why."""


class CallError(RuntimeError):
    """A script, kubectl or Helm failed; the message ends with what it said."""


class Cluster:
    """A context manager: up, and down again unless it was up before."""

    def __init__(self) -> None:
        self.kubeconfig = Path()
        self._was_up = False
        self._programs: dict[str, Path] = {}

    def __enter__(self) -> Cluster:
        check()
        self._programs = {name: found.path for name, found in binaries.find(["kubectl", "helm"]).items()}
        with contextlib.ExitStack() as failed:
            failed.callback(script, "down.sh")
            said = script("up.sh", timeout_s=UP_S)
            found = re.search(r"export KUBECONFIG=(\S+)", said)
            if found is None:
                raise CallError(f"up.sh names no kubeconfig: {said[-500:]}")
            failed.pop_all()
        self._was_up = "already up" in said
        self.kubeconfig = Path(found[1])
        return self

    def __exit__(self, *_: object) -> None:
        if not self._was_up:
            script("down.sh")

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator; return what it prints. Raises CallError."""
        return self._run("kubectl", *args, stdin=stdin)

    def helm(self, *args: str) -> str:
        """Run Helm as the administrator; return what it prints. Raises CallError."""
        return self._run("helm", *args)

    def read(self, *args: str) -> Document:
        """Return what `kubectl get` finds."""
        found: Document = json.loads(self.kubectl("get", *args, "--output=json"))
        return found

    def inside(self, namespace: str, pod: str, container: str, code: str) -> str:
        """Run Python in a container, as its own user; return what it prints. Raises CallError."""
        return self.kubectl("exec", "-n", namespace, pod, "-c", container, "--", "python", "-c", code)

    def build(self, tag: str) -> None:
        """Build our Dockerfile and load it into the node. Raises CallError."""
        script("build.sh", str(ROOT), tag)

    def restart_kubelet(self) -> None:
        """End the kubelet and start it as `up.sh` did; containers go on meanwhile."""
        again = (
            '. ./lib.sh; kill "$(cat "$T3/pids/kubelet")"; while alive kubelet; do sleep 0.1; done; '
            'run kubelet kubelet --config /var/lib/kubelet/config.yaml --kubeconfig "$T3/pki/node.kubeconfig" '
            '--hostname-override $NODE --node-ip "$NODE_IP" --v=2; '
            "until_ok 60 curl -sf http://127.0.0.1:10248/healthz"
        )
        _run(["bash", "-c", again], timeout_s=ASK_S)

    def _run(self, program: str, *args: str, stdin: str | None = None) -> str:
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return _run([str(self._programs[program]), *args], timeout_s=ASK_S, stdin=stdin, env=environment)


def check() -> None:
    """Raise NotHereError unless the cluster can be started here."""
    if not (SCRIPTS / "up.sh").exists():
        raise NotHereError("no real kubelet: ../shared/tier3 is not beside the repository")
    if os.geteuid() != 0:
        raise NotHereError("no real kubelet: it needs root")
    with socket.socket() as probe:
        other = probe.connect_ex(("127.0.0.1", KUBELET_PORT)) == 0
    if other and not _ours_lives():
        raise NotHereError(f"no real kubelet: another one listens on port {KUBELET_PORT} of this machine")


def script(name: str, *args: str, timeout_s: float = ASK_S * 4) -> str:
    """Run one of the cluster's scripts; return what it prints. Raises CallError."""
    return _run([str(SCRIPTS / name), *args], timeout_s=timeout_s)


def _ours_lives() -> bool:
    """Return whether the kubelet that `up.sh` started lives."""
    done = subprocess.run(["bash", "-c", ". ./lib.sh; alive kubelet"], cwd=SCRIPTS, capture_output=True, check=False)
    return done.returncode == 0


def _run(argv: list[str], *, timeout_s: float, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program with the scripts' folder as its own. What it starts in the background may hold no pipe of ours."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, input=stdin, timeout=timeout_s, env=env, cwd=SCRIPTS, check=False
        )
    except subprocess.TimeoutExpired as expired:
        raise CallError(f"{Path(argv[0]).name} {' '.join(argv[1:6])}: not done after {timeout_s:g} s") from expired
    if done.returncode != 0:
        raise CallError(f"{Path(argv[0]).name} {' '.join(argv[1:6])}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout
