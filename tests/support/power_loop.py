"""A fleet of fakes that record, for the power loop: agents with watts, a cluster, a writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from capstan.model.reasons import Reason
from capstan.power import cycle, ports, status
from capstan.powercap.domains import Level

RACK = {"rack": "7"}


def domain(name: str = "rack-7", budget_w: int = 12_000, mode: str = "Act", **spec: object) -> ports.Document:
    """A rack of 4-GPU servers as the API server has it."""
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "PowerDomain",
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1},
        "spec": {
            "type": "Rack",
            "nodeSelector": {"matchLabels": RACK},
            "highPriorityNamespaces": {"matchLabels": {"high": "true"}},
            "budgetWatts": budget_w,
            "nonGPUWattsPerNode": {"typical": 400, "worstCase": 500},
            "powerSupplyEfficiencyPercent": 94,
            "thresholds": {"lowPercent": 75, "highPercent": 85, "brakePercent": 98, "hysteresisPercent": 5},
            "mode": mode,
            **spec,
        },
    }


def policy(name: str, priority: str) -> ports.Document:
    """A ServingPolicy with targets; only its priority matters here."""
    target = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, "tensorParallel": 4}
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "ServingPolicy",
        "metadata": {"name": name, "namespace": "llm"},
        "spec": {
            "model": "m",
            "slo": {"ttftMilliseconds": 2000, "tpotMilliseconds": 100, "percentile": 99},
            "priority": priority,
            "bounds": {"minReplicas": 1, "maxReplicas": 2, "tensorParallel": [4]},
            "targets": [target],
        },
    }


@dataclass
class Fleet:
    """Four servers of 4 GPUs; `watts` per GPU by node, `silent` nodes do not answer."""

    watts: dict[str, float] = field(default_factory=lambda: {f"gpu-{i}": 100.0 for i in range(4)})
    silent: set[str] = field(default_factory=set)
    calls: dict[str, ports.LeaseCall] = field(default_factory=dict)
    sequence: int = 0

    async def renew(self, calls: tuple[ports.LeaseCall, ...]) -> Mapping[str, ports.AgentReport]:
        """Answer as agents do."""
        self.sequence += 1
        self.calls = {call.node: call for call in calls}
        return {call.node: self._report(call) for call in calls if call.node not in self.silent}

    def _report(self, call: ports.LeaseCall) -> ports.AgentReport:
        pod = "chat-0" if call.node in ("gpu-0", "gpu-1") else "batch-0"
        gpus = tuple(ports.GpuReport(i, "llm", pod, self.watts[call.node], 700, 200, None) for i in range(4))
        return ports.AgentReport(call.node, call.epoch, call.sequence, self.sequence, 0.2, safe=False, gpus=gpus)


@dataclass
class Api:
    """Records writes; `down` refuses them. What it stores is what the next scene shows."""

    scene_: ports.Scene
    caps: dict[str, list[ports.Document]] = field(default_factory=dict)
    statuses: list[ports.Document] = field(default_factory=list)
    events: list[ports.Transition] = field(default_factory=list)
    down: bool = False
    refused: set[str] = field(default_factory=set)

    def scene(self) -> ports.Scene:
        """Return what is stored."""
        return self.scene_

    async def node_cap(self, document: ports.Document) -> None:
        """Store a NodeCap."""
        self._refuse()
        name = document["metadata"]["name"]  # type: ignore[index]  # raw JSON
        if name in self.refused:
            raise ports.Refused(f"NodeCap {name} is not valid")
        power = document["spec"]["power"]  # type: ignore[index]  # raw JSON
        self.caps.setdefault(name, []).append(power)
        assert power.get("caps", True), "a real API server refuses an applied `caps: {}` once it held caps of ours"
        stored = ports.NodePower(power["epoch"], power["sequence"], power)
        self.scene_ = replace(self.scene_, node_powers={**self.scene_.node_powers, name: stored})

    async def status(self, domain_: ports.Document, made: ports.Document) -> None:
        """Store a status."""
        self._refuse()
        self.statuses.append(made)
        name = domain_["metadata"]["name"]  # type: ignore[index]  # raw JSON
        domains = [
            {**d, "status": made} if d["metadata"]["name"] == name else d  # type: ignore[index]  # raw JSON
            for d in self.scene_.domains
        ]
        self.scene_ = replace(self.scene_, domains=tuple(domains))

    async def event(self, transition: ports.Transition) -> None:
        """Keep an event."""
        self._refuse()
        self.events.append(transition)

    def edit(self, *domains: ports.Document) -> None:
        """Put new specs, as kubectl apply does: status stays, the generation rises."""
        before = {d["metadata"]["name"]: d for d in self.scene_.domains}  # type: ignore[index]  # raw JSON
        merged = []
        for new in domains:
            old = before.get(new["metadata"]["name"], {})  # type: ignore[index]  # raw JSON
            merged.append({**new, **({"status": old["status"]} if "status" in old else {})})
        self.scene_ = replace(self.scene_, domains=tuple(merged))

    def adopt(self, node: str, *, epoch: int, sequence: int) -> None:
        """Let another leader have written a NodeCap."""
        power = {**self.scene_.node_powers[node].document, "epoch": epoch, "sequence": sequence}
        theirs = {node: ports.NodePower(epoch, sequence, power)}
        self.scene_ = replace(self.scene_, node_powers={**self.scene_.node_powers, **theirs})

    def _refuse(self) -> None:
        if self.down:
            raise ports.Refused("the API server is down")


class Silent:
    """A meter that counts transitions."""

    def __init__(self) -> None:
        self.moves: list[tuple[str, Level, Level, Reason]] = []

    def tick(self, verdicts: tuple[status.Verdict, ...], answering: int, silent: int, seconds: float) -> None:
        """Ignore figures."""

    def moved(self, domain_: str, before: Level, after: Level, reason: Reason) -> None:
        """Keep a transition."""
        self.moves.append((domain_, before, after, reason))


class Site:
    """A loop over fakes, with a clock of its own; `run` lets seconds pass."""

    def __init__(self, *domains: ports.Document, epoch: int = 3) -> None:
        nodes = {f"gpu-{i}": ports.NodeSeen(f"gpu-{i}", RACK, f"127.0.0.{i + 1}:9808") for i in range(4)}
        pods = (
            ports.PodSeen("llm", "chat-0", "gpu-0", "llm/chat"),
            ports.PodSeen("llm", "batch-0", "gpu-2", "llm/batch"),
        )
        policies = {"llm/chat": policy("chat", "High"), "llm/batch": policy("batch", "Low")}
        scene = ports.Scene(domains, policies, nodes, pods, {"llm": {"high": "true"}})
        self.fleet, self.api, self.meter = Fleet(), Api(scene), Silent()
        self.now_s = 1000.0
        self.start(epoch)

    def start(self, epoch: int) -> None:
        """Start a controller, as a leader of this epoch."""
        wired = cycle.Ports(self.api, self.fleet, self.api, self.meter, lambda: self.now_s, lambda: self.now_s)
        self.loop = cycle.Loop(wired, epoch=epoch)

    def join(self, node: str) -> None:
        """Let a server join the rack."""
        seen = ports.NodeSeen(node, RACK, "127.0.0.9:9808")
        self.api.scene_ = replace(self.api.scene_, nodes={**self.api.scene_.nodes, node: seen})
        self.fleet.watts[node] = 100.0

    async def run(self, seconds: int) -> status.Verdict:
        """Let seconds pass; return the first domain's last verdict."""
        for _ in range(seconds):
            verdicts = await self.loop.tick()
            await self.loop.settle()
            self.now_s += 1.0
        return verdicts[0]

    def draw(self, watts: float) -> None:
        """Let every GPU draw this much."""
        self.fleet.watts = dict.fromkeys(self.fleet.watts, watts)


def conditions(made: ports.Document) -> dict[str, tuple[str, str]]:
    """Return (status, reason) by condition type."""
    listed = made["conditions"]
    assert isinstance(listed, list)
    return {c["type"]: (c["status"], c["reason"]) for c in listed}
