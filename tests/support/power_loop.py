"""A fleet of fakes that record, for the power loop: agents with watts, a cluster, a writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from capstan.model.reasons import Reason
from capstan.power import caps, cycle, ports
from capstan.power.judge import Verdict
from capstan.power.site import Site as Power
from capstan.powercap.domains import NO_CAPS, ClassCaps, Level, tightest
from support.power_api import Api, Ledgers, Raw

RACK = {"rack": "7"}


def domain(name: str = "rack-7", budget_w: int = 12_000, mode: str = "Act", **spec: object) -> Raw:
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


def policy(name: str, priority: str) -> Raw:
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
class Agent:
    """One node's lease, as `agent.lease` keeps it: equal numbers tighten, older ones are refused, NodeCaps loosen."""

    epoch: int = 0
    sequence: int = 0
    caps: ClassCaps = NO_CAPS
    renewed_s: float = -1e9
    kept: tuple[int, int] = (0, 0)

    def renew(self, call: ports.LeaseCall, now_s: float) -> bool:
        """Take a call; return whether it was taken."""
        if (call.epoch, call.sequence) < (self.epoch, self.sequence):
            return False
        self.epoch, self.sequence, self.renewed_s = call.epoch, call.sequence, now_s
        self.caps = tightest(self.caps, call.caps)
        return True

    def grant(self, power: ports.Document) -> None:
        """Take a NodeCap."""
        epoch, sequence = power["epoch"], power["sequence"]
        assert isinstance(epoch, int)
        assert isinstance(sequence, int)
        if (epoch, sequence) >= (self.epoch, self.sequence):
            self.epoch, self.sequence = epoch, sequence
            self.caps = caps.caps_of(ports.NodePower(epoch, sequence, power))
            self.kept = (epoch, sequence)


@dataclass
class Fleet:
    """Four servers of 4 GPUs; `watts` per GPU by node, `silent` nodes do not answer, `deaf` ones take no cap.

    `limited`: boards draw no more than their limit. `odd`: nodes whose boards do not say what they enforce.
    """

    watts: dict[str, float] = field(default_factory=lambda: {f"gpu-{i}": 100.0 for i in range(4)})
    silent: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    odd: set[str] = field(default_factory=set)
    limited: bool = False
    persistent: bool | None = None
    problems: dict[str, tuple[str, ...]] = field(default_factory=dict)
    calls: dict[str, ports.LeaseCall] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    sequence: int = 0
    now_s: float = 0.0

    async def renew(self, calls: tuple[ports.LeaseCall, ...]) -> Mapping[str, ports.AgentReport | ports.Outdated]:
        """Answer as agents do."""
        self.sequence += 1
        self.calls.update({call.node: call for call in calls})
        return {call.node: self._answer(call) for call in calls if call.node not in self.silent}

    def _answer(self, call: ports.LeaseCall) -> ports.AgentReport | ports.Outdated:
        agent = self.agents.setdefault(call.node, Agent())
        if not agent.renew(call, self.now_s):
            return ports.Outdated(call.node)
        pod = "chat-0" if call.node in ("gpu-0", "gpu-1") else "batch-0"
        cap = agent.caps.high_mhz if pod == "chat-0" else agent.caps.low_mhz
        limit = 700.0 if agent.caps.power_limit_w is None else agent.caps.power_limit_w
        shown = (None, 700.0) if call.node in self.deaf else (cap, limit)
        watts = min(self.watts[call.node], shown[1]) if self.limited else self.watts[call.node]
        enforced = None if call.node in self.odd else shown[1]
        gpus = tuple(
            ports.GpuReport(
                i, "llm", pod, watts, 700, 200, shown[0], enforced_limit_w=enforced, persistent=self.persistent,
            )
            for i in range(4)
        )  # fmt: skip
        return ports.AgentReport(
            call.node, agent.epoch, agent.sequence, self.sequence, 0.2, safe=False, gpus=gpus, caps=agent.caps,
            kept=agent.kept,
            problems=self.problems.get(call.node, ()),
        )  # fmt: skip

    def leased(self) -> set[str]:
        """Return the nodes whose lease of 4 s still lasts."""
        return {node for node, agent in self.agents.items() if self.now_s - agent.renewed_s <= caps.LEASE_S}


@dataclass
class Meters:
    """Slow meters: watts by query; a query that is not there was not read yet."""

    watts: dict[str, float] = field(default_factory=dict)
    age_s: float = 0.5
    asked: frozenset[str] = frozenset()
    now_s: float = 0.0
    problem: str = ""

    def ask(self, queries: frozenset[str]) -> None:
        """Keep what is asked."""
        self.asked = queries

    def said(self, query: str) -> ports.Reading | None:
        """Answer from the script."""
        if self.problem:
            return ports.Reading(None, 0.0, self.now_s, self.problem)
        found = self.watts.get(query)
        return None if found is None else ports.Reading(found, self.age_s, self.now_s)


class Silent:
    """A meter that counts transitions."""

    def __init__(self) -> None:
        self.moves: list[tuple[str, Level, Level, Reason]] = []
        self.advice: list[tuple[str, Level, Level]] = []
        self.lost = 0

    def tick(self, verdicts: tuple[Verdict, ...], answering: int, silent: int, seconds: float) -> None:
        """Ignore figures."""

    def moved(self, domain_: str, before: Level, after: Level, reason: Reason) -> None:
        """Keep a transition."""
        self.moves.append((domain_, before, after, reason))

    def advised(self, domain_: str, before: Level, after: Level) -> None:
        """Keep a transition that was only advised."""
        self.advice.append((domain_, before, after))

    def drifted(self, caps_lost: int) -> None:
        """Count caps that were lost."""
        self.lost += caps_lost


class Site:
    """A leader over fakes, with a clock of its own; `run` lets seconds pass. More processes: `another`."""

    def __init__(self, *domains: Raw, epoch: int = 3) -> None:
        nodes = {f"gpu-{i}": ports.NodeSeen(f"gpu-{i}", RACK, f"127.0.0.{i + 1}:9808") for i in range(4)}
        pods = (
            ports.PodSeen("llm", "chat-0", "gpu-0", "llm/chat"),
            ports.PodSeen("llm", "batch-0", "gpu-2", "llm/batch"),
        )
        policies = {"llm/chat": policy("chat", "High"), "llm/batch": policy("batch", "Low")}
        scene = ports.Scene(domains, policies, nodes, pods, {"llm": {"high": "true"}})
        self.fleet, self.api, self.meter, self.meters = Fleet(), Api(scene), Silent(), Meters()
        self.ledgers = Ledgers(self.api)
        self.api.granted = lambda node, power: self.fleet.agents.setdefault(node, Agent()).grant(power)
        self.now_s = 1000.0
        self.start(epoch)

    def start(self, epoch: int) -> None:
        """Start a controller, as a leader of this epoch."""
        self.power = self.another()
        self.power.lead(0, epoch)

    def another(self, *, shards: int = 1) -> Power:
        """Return one more process over the same world; it stands by."""
        wired = cycle.Ports(
            self.api,
            self.fleet,
            self.api,
            self.meters,
            self.meter,
            lambda: self.now_s,
            lambda: self.now_s,
            self.ledgers,
        )
        return Power(wired, shards=shards)

    def join(self, node: str) -> None:
        """Let a server join the rack."""
        seen = ports.NodeSeen(node, RACK, "127.0.0.9:9808")
        self.api.scene_ = replace(self.api.scene_, nodes={**self.api.scene_.nodes, node: seen})
        self.fleet.watts[node] = 100.0

    async def run(self, seconds: int, *processes: Power) -> Verdict:
        """Let seconds pass for some processes, by default the leader; return the first domain's last verdict."""
        verdicts: tuple[Verdict, ...] = ()
        for _ in range(seconds):
            self.fleet.now_s = self.meters.now_s = self.now_s
            for process in processes or (self.power,):
                verdicts = await process.tick() or verdicts
                await process.settle()
            self.now_s += 1.0
        return verdicts[0]

    async def power_of(self, *processes: Power) -> None:
        """Let one second pass for processes that need not lead anything."""
        self.fleet.now_s = self.meters.now_s = self.now_s
        for process in processes:
            await process.tick()
            await process.settle()
        self.now_s += 1.0

    def draw(self, watts: float) -> None:
        """Let every GPU draw this much."""
        self.fleet.watts = dict.fromkeys(self.fleet.watts, watts)

    def message(self, kind: str) -> str:
        """Return the message of a condition as stored last."""
        listed = self.api.statuses[-1]["conditions"]
        assert isinstance(listed, list)
        return str(next(c["message"] for c in listed if c["type"] == kind))


def conditions(made: Raw) -> dict[str, tuple[str, str]]:
    """Return (status, reason) by condition type."""
    listed = made["conditions"]
    assert isinstance(listed, list)
    return {c["type"]: (c["status"], c["reason"]) for c in listed}
