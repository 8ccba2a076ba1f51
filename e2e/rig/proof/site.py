"""The proof, up and running: what a scenario may do to it and what it may look at.

Who calls it: the tests and `python -m rig power proof`, with a control plane that runs; everything that it made is
gone after `close`, on every way out.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from capstan.powercap import domains
from rig import gate, objects
from rig.controlplane import ControlPlane
from rig.nvml.state import Caps
from rig.proof import processes, scene
from rig.proof.monitor import P1_S, Monitor, Seen
from rig.proof.plant import Plant

FACTOR = 10.0  # what the timers of the levels are divided by; leases, ticks and P1's 10 s are as shipped
START_S = 90.0  # two cores that do other things at once start thirty processes in a minute
CALM_S = 300.0  # four levels, each released after its dwell, which doubles where caps come back soon
POLL_S = 0.1
BRAKE_MHZ = int(domains.Caps().brake_mhz)  # the domains name no caps of their own
STATISTICAL, GUARANTEED = "Statistical", "Guaranteed"
DOMAINS = "/apis/capstan.dev/v1alpha1/powerdomains"
NODE_CAPS = "/apis/capstan.dev/v1alpha1/nodecaps"
Document = Mapping[str, Any]


class BrokenError(RuntimeError):
    """Something that a scenario promises did not come true; the message says what."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a proof is set up.

    Attributes:
        gated: A gate stands before every agent, so that its network can be cut.
        prometheus_url: Where `meter` is asked; empty: nowhere.
        meter: The row's meter, PromQL; empty: none.
        strategy: How all domains hold their budgets.
    """

    gated: bool = False
    prometheus_url: str = ""
    meter: str = ""
    strategy: str = STATISTICAL


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario's line in the table."""

    name: str
    seen: Seen
    note: str = ""


class Site:
    """A context manager.

    Args:
        control: A running control plane with our CRDs; its supervisor gets the processes.
        folder: For state files, sockets and the key; short, for sockets.
        library: The fake driver.
        options: Gates, Prometheus.
    """

    def __init__(self, control: ControlPlane, folder: Path, library: Path, options: Options = Options()) -> None:
        self.control = control
        self.rows: list[Row] = []
        self._options = options
        self._name = f"proof-{os.getpid()}"
        subnet = f"127.{96 + (os.getpid() >> 8 & 63)}.{os.getpid() & 255}"
        self.servers = scene.servers(self._name, subnet)
        self._gates = gate.Gates()
        places = processes.Places(folder, library, self._name, f"{self._name}-llm", control.kubeconfig)
        self._places = places
        self._running = processes.Servers(places, control.supervisor, self.servers)
        self.power = processes.Replicas(
            places, control.supervisor, factor=FACTOR, prometheus_url=options.prometheus_url
        )
        self.monitor = Monitor(scene.members(self.servers))
        self.limits = Monitor(scene.members(self.servers))
        self.plant = Plant(self._running.states, self.monitor, self.limits)
        self.networks: dict[str, processes.Network] = {}
        self._safe: Mapping[str, tuple[int, float]] = {}

    def __enter__(self) -> Site:
        with contextlib.ExitStack() as failed:
            failed.callback(self.close)
            self._gates.__enter__()
            self.plant.load(scene.QUIET)
            self.plant.__enter__()
            self.networks = self._running.start(gates=self._gates if self._options.gated else None)
            self._create()
            for _ in range(2):
                self.power.start()
            if self._options.prometheus_url:
                self.power.start_operator(self._options.prometheus_url)
            if self._options.strategy == GUARANTEED:
                self.wait(lambda: self.granting, "every domain armed, every grant in force", START_S)
            else:
                self.wait(self._is_stock, "every domain armed, every node joined, nothing capped", START_S)
            for name, budget_w in scene.BUDGETS_W.items():
                self._hold(name, budget_w)
            failed.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove every object of ours."""
        self.power.close()
        self._running.close()
        self.plant.__exit__()
        self._gates.__exit__()
        with contextlib.suppress(RuntimeError, httpx.HTTPError):
            self._remove()

    # --- look ----------------------------------------------------------------------------------------

    def wait(self, holds: Callable[[], bool], what: str, timeout_s: float) -> float:
        """Wait until something is true and return how long it took. Raises BrokenError."""
        began_s = time.monotonic()
        while not holds():
            self.expect(time.monotonic() - began_s < timeout_s, f"{what}, within {timeout_s:g} s")
            time.sleep(POLL_S)
        return time.monotonic() - began_s

    def stays(self, holds: Callable[[], bool], what: str, seconds: float) -> None:
        """Look for some time whether something stays true. Raises BrokenError."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.expect(holds(), f"{what}, for {seconds:g} s")
            time.sleep(POLL_S)

    def expect(self, holds: bool, what: str) -> None:
        """Raise BrokenError with what the site looks like, unless something is true."""
        if holds:
            return
        now_s = time.monotonic()
        levels = " ".join(f"{moved.domain}:{moved.after}" for moved in self.power.moved()[-8:])
        caps = Counter(f"{caps.clock_cap_mhz} MHz {caps.power_limit_w:g} W" for caps in self.plant.caps().values())
        last = [f"{c.node}/{c.gpu} {now_s - c.at_s:.1f} s ago {c.before} -> {c.after}" for c in self.plant.changes[-4:]]
        told = "\n".join(
            [f"last transitions: {levels}", f"boards: {dict(caps)}", *last, f"logs: {self.control.folder / 'log'}"]
        )
        raise BrokenError(f"expected: {what}\n{told}")

    def levels(self) -> tuple[str, ...]:
        """Return the levels of the row that its leaders logged, in order."""
        return tuple(moved.after for moved in self.power.moved() if moved.domain == scene.ROW)

    def domain(self, name: str) -> Document | None:
        """Return a PowerDomain as the API server has it; None: it is gone."""
        return self._get(f"{DOMAINS}/{name}")

    def state(self, name: str) -> str:
        """Return the state that a domain's status says; empty where there is none."""
        return str(((self.domain(name) or {}).get("status") or {}).get("state", ""))

    def condition(self, domain: str, kind: str) -> tuple[str, str]:
        """Return status and reason of a condition; empty where there is none."""
        found = ((self.domain(domain) or {}).get("status") or {}).get("conditions") or ()
        return next(((c["status"], c["reason"]) for c in found if c["type"] == kind), ("", ""))

    def leader(self) -> str:
        """Return who holds the Lease."""
        lease = self._get(f"/apis/coordination.k8s.io/v1/namespaces/{self._name}/leases/capstan-power")
        return "" if lease is None else str(lease["spec"].get("holderIdentity") or "")

    @property
    def braked(self) -> bool:
        """Whether all boards of low priority are at the brake clock; high priority follows where that is not enough."""
        return all(caps.clock_cap_mhz == BRAKE_MHZ for (_, gpu), caps in self.plant.caps().items() if gpu == 1)

    def node_caps(self) -> set[str]:
        """Return the nodes that have a NodeCap."""
        return {item["metadata"]["name"] for item in (self._get(NODE_CAPS) or {}).get("items", ())}

    def clocks(self, *, high_mhz: int | None, low_mhz: int | None) -> bool:
        """Return whether all boards have these clock caps, by priority; None: no cap."""
        wanted = {0: high_mhz, 1: low_mhz}  # board 0 of a server is High's
        return all(caps.clock_cap_mhz == wanted[gpu] for (_, gpu), caps in self.plant.caps().items())

    def safe(self, *nodes: str) -> bool:
        """Return whether some nodes are in the safe setting that their NodeCaps named last."""
        found = {key: caps for key, caps in self.plant.caps().items() if key[0] in (nodes or self._names)}
        return all(_within(caps, *self._safe[key[0]]) for key, caps in found.items())

    def note_safe(self) -> None:
        """Remember the safe setting of every node, before the API server goes away."""
        items = (self._get(NODE_CAPS) or {}).get("items", ())
        powers = {item["metadata"]["name"]: item["spec"]["power"]["safe"] for item in items}
        self._safe = {name: (safe["clockMegahertz"], safe["powerLimitWatts"]) for name, safe in powers.items()}

    @contextlib.contextmanager
    def measured(self, name: str, note: str = "") -> Iterator[list[str]]:
        """Put what happens meanwhile into the table; a scenario may add to its note."""
        began_s, notes = time.monotonic(), [note] if note else []
        yield notes
        self.wait(lambda: not self.monitor.above, f"{name}: below every budget again", P1_S)
        row = Row(name, self.monitor.seen(began_s), "; ".join(notes))
        self.rows.append(row)
        if not row.seen.held:
            raise BrokenError(f"P1: {name}: above a budget for {row.seen.longest_s:.1f} s")

    # --- do ------------------------------------------------------------------------------------------

    def budget(self, domain: str, budget_w: int) -> None:
        """Declare another budget with kubectl; the monitors hold the domain to it from before that."""
        self._hold(domain, budget_w)
        patch = json.dumps({"spec": {"budgetWatts": budget_w}})
        self.control.kubectl("patch", "powerdomain", domain, "--type=merge", "-p", patch)

    def calm(self, timeout_s: float = CALM_S) -> None:
        """Take the load away and wait until nothing is capped."""
        self.plant.load(scene.QUIET)
        self.wait(self._is_stock, "every level released", timeout_s)

    def strategy(self, name: str) -> None:
        """Declare another strategy for every domain, the root last."""
        patch = json.dumps({"spec": {"strategy": name}})
        for domain in reversed(scene.BUDGETS_W):
            self.control.kubectl("patch", "powerdomain", domain, "--type=merge", "-p", patch)

    def _hold(self, domain: str, budget_w: int) -> None:
        """Hold a domain's true watts to a budget, and under grants what its limits allow, too."""
        self.monitor.hold(domain, budget_w)
        if self._options.strategy == GUARANTEED:
            self.limits.hold(domain, budget_w)

    @property
    def granting(self) -> bool:
        """Whether every domain says that its grants are in force."""
        return all(self.condition(name, "GrantsInForce")[0] == "True" for name in scene.BUDGETS_W)

    def limit_w(self, server: int) -> float:
        """Return the tightest board limit of a server."""
        name = self.servers[server].name
        return min(caps.power_limit_w for key, caps in self.plant.caps().items() if key[0] == name)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(server.name for server in self.servers)

    @property
    def stock(self) -> bool:
        """Whether no board is capped or limited."""
        return all(caps == Caps(None, scene.STOCK_W) for caps in self.plant.caps().values())

    def _is_stock(self) -> bool:
        """Return whether all domains are armed and no board is capped."""
        if not self.stock:
            return False
        armed = all(self.condition(name, "Armed")[0] == "True" for name in scene.BUDGETS_W)
        return armed and self.node_caps() >= set(self._names)

    def _create(self) -> None:
        client, places = self.control.client, self._places
        for name in (places.namespace, places.tenants):
            objects.create_namespace(client, name)
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            self.wait(partial(objects.answers, client, account), "default service account", START_S)
        asked = self._options
        standing = scene.domains(places.tenants, meter=asked.meter, strategy=asked.strategy)
        made = [*scene.policies(places.tenants), *standing]
        for server in self.servers:
            made += [scene.node(server, places.tenants), *scene.pods(server, places.namespace, places.tenants)]
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
        self.control.kubectl("create", "-f", "-", stdin=listed)

    def _remove(self) -> None:
        kubectl, places = self.control.kubectl, self._places
        free = '{"metadata":{"finalizers":[]}}'  # nobody is left to let them go
        for name in scene.BUDGETS_W:
            kubectl("patch", "powerdomain", name, "--type=merge", "-p", free, check=False)
        kubectl("delete", "powerdomain", *scene.BUDGETS_W, "--ignore-not-found", "--wait=false")
        for namespace in (places.namespace, places.tenants):
            kubectl("-n", namespace, "delete", "pods", "--all", "--force", "--grace-period=0")
        kubectl("delete", "powerledger", scene.ROW, "--ignore-not-found", "--wait=false")
        kubectl("delete", "nodecap,node", *self._names, "--ignore-not-found", "--wait=false")
        kubectl("delete", "namespace", places.namespace, places.tenants, "--wait=false")

    def _get(self, path: str) -> Document | None:
        answer = self.control.client.get(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: Document = answer.raise_for_status().json()
        return found


def _within(caps: Caps, clock_mhz: int | None, limit_w: float | None) -> bool:
    if clock_mhz is not None and (caps.clock_cap_mhz is None or caps.clock_cap_mhz > clock_mhz):
        return False
    return limit_w is None or caps.power_limit_w <= limit_w
