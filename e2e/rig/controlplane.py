"""A real Kubernetes control plane in one folder: etcd, API server, controller manager, scheduler, KWOK.

Who calls it: `python -m rig`, the demo, the integration tests. Ready in a few seconds, about 0.6 GB, no root.
Nothing of an earlier run survives in it: the store is emptied at start.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from rig import binaries, components, objects, pki, process, prometheus

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl")
READY_TIMEOUT_S = 60  # 3-5 s on two idle cores; a machine that is building something needs ten times that
MARKER = ".capstan-rig"  # written into a folder of ours: only such a one is ever emptied
TOKEN_LIFETIME_S = 24 * 3600


class ControlPlane:
    """Starts and stops the components; a context manager, also `async with`.

    Attributes:
        folder: Holds `etcd/ log/ pids/ pki/ audit.jsonl`.
        supervisor: Runs the components; may run others beside them, which are then stopped first.
        programs: The binaries used, by name.
        kubeconfig: Of a cluster admin (user `admin`, group `system:masters`).
        token: The admin's bearer token.
    """

    def __init__(
        self,
        folder: Path,
        *,
        supervisor: process.Supervisor | None = None,
        programs: Mapping[str, binaries.Binary] | None = None,
    ) -> None:
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.programs = dict(programs or binaries.find(PROGRAMS))
        self.supervisor = supervisor or process.Supervisor(folder)
        self._layout = components.Layout.fresh(folder)
        self._users = {
            # `kubectl --as` and `--as-group` reach every other identity from the admin's
            "admin": pki.User.create("admin", "system:masters"),
            "kwok": pki.User.create("kwok", "system:masters"),
            "simulator": pki.User.create("simulator", "system:masters"),
            "controller-manager": pki.User.create("system:kube-controller-manager"),
            "scheduler": pki.User.create("system:kube-scheduler"),
        }
        self._client: httpx.Client | None = None

    @property
    def url(self) -> str:
        """Address of the API server."""
        return self._layout.url

    @property
    def ca(self) -> Path:
        """Certificate authority of the API server, a PEM file."""
        return self._layout.authority

    @property
    def audit_log(self) -> Path:
        """One JSON line (audit.k8s.io/v1 Event, Metadata level) per request that writes."""
        return self._layout.audit_log

    @property
    def token(self) -> str:
        """The admin's bearer token."""
        return self._users["admin"].token

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self._layout.kubeconfig("admin")

    @property
    def client(self) -> httpx.Client:
        """The admin's HTTP client, its base the API server; open while the control plane runs."""
        if self._client is None:
            raise RuntimeError("the control plane is not running")
        return self._client

    def kubeconfig_of(self, user: str) -> Path:
        """Return the kubeconfig of a static user, such as `simulator`."""
        return self._layout.kubeconfig(user)

    def start(self) -> Self:
        """Start everything and wait until pods can be created.

        Raises:
            process.ChildError: A component ended or did not become ready; what was started is stopped again.
        """
        try:
            self._start_api()
            self._start_rest()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything that the supervisor runs, last started first."""
        if self._client is not None:
            self._client.close()
            self._client = None
        self.supervisor.stop_all()

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Return a kubeconfig of a service account, which is created where it is missing (TokenRequest, 24 h)."""
        token = objects.service_account_token(self.client, namespace, name, lifetime_s=TOKEN_LIFETIME_S)
        path = self._layout.keys / f"sa-{namespace}-{name}.kubeconfig"
        return pki.write_kubeconfig(path, server=self.url, authority=self.ca, token=token, namespace=namespace)

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as admin and return what it printed.

        Raises:
            RuntimeError: It failed (unless `check` is off); the message is what it wrote to stderr.
        """
        argv = [str(self.programs["kubectl"].path), f"--kubeconfig={self.kubeconfig}", *args]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done

    def nodes(self, count: int, spec: objects.NodeSpec | None = None, *, wait: bool = True) -> list[str]:
        """Create GPU nodes `gpu-0 …`, wait until they are Ready, and return their names."""
        names = objects.create_nodes(self.client, count, spec or objects.NodeSpec())
        if wait:
            self._wait(lambda: objects.ready_nodes(self.client) >= set(names), "nodes Ready")
        return names

    def apply_crds(self, folder: Path) -> list[str]:
        """Apply every CustomResourceDefinition of a folder, wait for Established, and return their names."""
        names = objects.apply_crds(self.client, folder)
        self._wait(lambda: objects.established_crds(self.client) >= set(names), "CRDs Established")
        return names

    def start_prometheus(self, config: prometheus.Config) -> str:
        """Start a Prometheus in the same folder and return its URL once it answers."""
        program = binaries.find(["prometheus"])["prometheus"]
        url = prometheus.start(self.supervisor, program.path, config)
        self._wait(lambda: prometheus.ready(url), "Prometheus ready")
        return url

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _start_api(self) -> None:
        at = self._layout
        self._empty()
        pki.write_tokens(at.keys / "tokens.csv", self._users.values())
        pki.write_signing_key(at.keys / "sa.key")
        self._run("etcd", components.etcd(self._program("etcd"), at))
        self._run("kube-apiserver", components.apiserver(self._program("kube-apiserver"), at))
        self._wait(lambda: pki.split_authority(at.keys / "apiserver.crt", self.ca), "API server's certificate")
        for name, user in self._users.items():
            pki.write_kubeconfig(at.kubeconfig(name), server=self.url, authority=self.ca, token=user.token)
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            verify=ssl.create_default_context(cafile=str(self.ca)),
            timeout=30,
            trust_env=False,  # a proxy of the environment knows nothing of our loopback
        )
        self._wait(lambda: objects.answers(self.client, "/readyz"), "API server ready")

    def _empty(self) -> None:
        """Remove what an earlier run left, and nothing that a rig did not write."""
        at = self._layout
        marker = at.folder / MARKER
        left = [part for part in (at.folder / "etcd", at.keys) if part.exists()]
        if left and not marker.exists():
            raise process.ChildError(f"{left[0]} is not a rig's; choose another folder")
        marker.touch()
        for part in left:
            shutil.rmtree(part)
        at.audit_log.unlink(missing_ok=True)

    def _start_rest(self) -> None:
        at = self._layout
        self._run(
            "kube-controller-manager", components.controller_manager(self._program("kube-controller-manager"), at)
        )
        self._run("kube-scheduler", components.scheduler(self._program("kube-scheduler"), at))
        self._run("kwok", components.kwok(self._program("kwok"), at))
        default = "/api/v1/namespaces/default/serviceaccounts/default"  # a pod cannot be created before it is there
        self._wait(lambda: objects.answers(self.client, default), "controller manager ready")

    def _run(self, name: str, argv: list[str]) -> None:
        self.supervisor.start(name, argv, env=components.GO_ENV)

    def _program(self, name: str) -> Path:
        return self.programs[name].path

    def _wait(self, ready: process.Ready, what: str) -> None:
        self.supervisor.wait_until(ready, what, READY_TIMEOUT_S)
