"""Two leaders, a stale cache, conflicts, lost answers and forgetful agents: limits never add up to more than a budget.

The live objects of `power` over an API server that stores, versions and refuses as the real one does. A deposed leader
goes on ticking with the cache that it had. Enforced limits count at what they allow at worst. A cut budget is allowed
what was held when it was cut, and from then on only less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from capstan.power import caps, cycle, ports
from capstan.power.site import Site as Power
from capstan.powercap import grants
from capstan.powercap.domains import NO_CAPS, ClassCaps, tightest
from capstan.powercap.grants import Member
from support.power_api import Api, Ledgers
from support.power_loop import Meters, Silent, domain

BUDGETS = {"row-1": 11_000, "rack-a": 6_000, "rack-b": 6_000}
NODES = {"a1": "rack-a", "a2": "rack-a", "b1": "rack-b", "b2": "rack-b"}
ONE = Member("", (), 4, 500, 0.94, 200, 700)
NAMES = st.sampled_from(sorted(NODES))


@dataclass
class Server:
    """An agent, what it keeps, and the limit in its boards."""

    number: tuple[int, int] = (0, 0)
    caps_w: float | None = None
    safe_w: float | None = None
    taken: tuple[int, int] = (0, 0)
    kept: tuple[int, int] = (0, 0)
    board_w: float = 700.0
    shown_w: float = 700.0
    samples: int = 0
    watts: float = 100.0
    silent: bool = False

    def turn(self) -> None:
        """Sample, keep what a restart must know, then write."""
        self.samples, self.shown_w, self.kept = self.samples + 1, self.board_w, self.taken
        if self.safe_w is not None:
            self.board_w = min(limit_w for limit_w in (self.safe_w, self.caps_w) if limit_w is not None)

    def take(self, power: ports.NodePower) -> None:
        """Take our NodeCap, unless it is older than what we heard."""
        if (power.epoch, power.sequence) < self.number:
            return
        self.number = self.taken = (power.epoch, power.sequence)
        self.caps_w = caps.caps_of(power).power_limit_w
        safe = caps.safe_of([power])
        self.safe_w = None if safe is None else safe.power_limit_w


@dataclass
class Fleet:
    """All servers, as agents answer."""

    servers: dict[str, Server] = field(default_factory=lambda: {name: Server() for name in NODES})

    async def renew(self, calls: tuple[ports.LeaseCall, ...]) -> Mapping[str, ports.AgentReport | ports.Outdated]:
        """Answer, or refuse who is older; a call tightens at once."""
        return {call.node: self._one(call) for call in calls if not self.servers[call.node].silent}

    def _one(self, call: ports.LeaseCall) -> ports.AgentReport | ports.Outdated:
        at = self.servers[call.node]
        if (call.epoch, call.sequence) < at.number:
            return ports.Outdated(call.node)
        at.number = (call.epoch, call.sequence)
        at.caps_w = tightest(ClassCaps(power_limit_w=at.caps_w), call.caps).power_limit_w
        watts = min(at.watts, at.shown_w)
        gpu = (watts, 700.0, 200.0, None)
        gpus = tuple(ports.GpuReport(i, "", "", *gpu, enforced_limit_w=at.shown_w, persistent=True) for i in range(4))
        return ports.AgentReport(
            call.node, *at.number, at.samples, 0.2, safe=False, gpus=gpus, caps=NO_CAPS, kept=at.kept
        )


class Frozen:
    """The cache of a leader that is deposed: it never sees anything new."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.stopped: ports.Scene | None = None

    def stop(self) -> None:
        """See nothing new from now on."""
        self.stopped = self.api.scene()

    def scene(self) -> ports.Scene:
        """Return what is cached."""
        return self.api.scene() if self.stopped is None else self.stopped


def tree() -> tuple[ports.Document, ...]:
    row = domain("row-1", budget_w=BUDGETS["row-1"], type="Row", nodeSelector=None, strategy="Guaranteed")
    racks = (
        domain(
            name, budget_w=BUDGETS[name], parentName="row-1", nodeSelector={"matchLabels": {"rack": name}},
            strategy="Guaranteed",
        )
        for name in ("rack-a", "rack-b")
    )  # fmt: skip
    return (row, *racks)


class Live(RuleBasedStateMachine):
    """The API server, the leader of now, the one before, the servers, and a clock."""

    @initialize()
    def begin(self) -> None:
        nodes = {name: ports.NodeSeen(name, {"rack": rack}, f"{name}:9808") for name, rack in NODES.items()}
        self.api, self.fleet = Api(ports.Scene(tree(), {}, nodes)), Fleet()
        self.ledgers, self.now_s, self.epoch = Ledgers(self.api), 1000.0, 0
        self.budgets = dict(BUDGETS)
        self.allowed_w: dict[str, float] = {}
        self.deposed: Power | None = None
        self.cache, self.power = self.leader()
        for _ in range(10):
            self.second()
        self.allowed_w = {name: float(watts) for name, watts in self.budgets.items()}

    def leader(self) -> tuple[Frozen, Power]:
        cache = Frozen(self.api)
        now_s = lambda: self.now_s  # noqa: E731 - a clock
        wired = cycle.Ports(cache, self.fleet, self.api, Meters(), Silent(), now_s, now_s, self.ledgers)
        power = Power(wired)
        self.epoch += 1
        power.lead(0, self.epoch)
        return cache, power

    def tick(self, power: Power) -> None:
        async def once() -> None:
            await power.tick()
            await power.settle()

        asyncio.run(once())

    @rule()
    def second(self) -> None:
        """Everything goes well for a second."""
        self.tick(self.power)
        self.now_s += 1.0
        for name, server in self.fleet.servers.items():
            self.delivered(name)
            if not server.silent:
                server.turn()

    @rule(seconds=st.integers(2, 6))
    def seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second()

    @rule()
    def the_leader_alone(self) -> None:
        """A tick in which no NodeCap arrives and no agent turns."""
        self.tick(self.power)
        self.now_s += 1.0

    @rule()
    def the_deposed_one_ticks(self) -> None:
        if self.deposed is not None:
            self.tick(self.deposed)

    @rule()
    def takes_over(self) -> None:
        self.cache.stop()
        self.deposed = self.power
        self.cache, self.power = self.leader()

    @rule(node=NAMES)
    def delivered(self, node: str) -> None:
        stored = self.api.scene_.node_powers.get(node)
        if stored is not None:
            self.fleet.servers[node].take(stored)

    @rule(node=NAMES)
    def turns(self, node: str) -> None:
        self.fleet.servers[node].turn()

    @rule(node=NAMES, watts=st.sampled_from([100.0, 400.0, 700.0]))
    def load(self, node: str, watts: float) -> None:
        self.fleet.servers[node].watts = watts

    @rule(node=NAMES, silent=st.booleans())
    def silence(self, node: str, silent: bool) -> None:
        self.fleet.servers[node].silent = silent

    @rule(node=NAMES)
    def forgets(self, node: str) -> None:
        """An agent starts without its file: the limit stays in the boards, and its NodeCap is read first.

        That may be the one before a cut, where the API server refused the newer: what it holds still counts.
        """
        was = self.fleet.servers[node]
        self.fleet.servers[node] = Server(board_w=was.board_w, shown_w=was.board_w, samples=0, watts=was.watts)
        self.delivered(node)
        spare_w = self.ledgers.stored["row-1"].ledger.spare_w()
        for name in ("row-1", NODES[node]):
            budget_w = dict(self.ledgers.stored["row-1"].ledger.budgets_w)[name]
            self.allowed_w[name] = max(self.allowed_w[name], budget_w - spare_w[name])

    @rule(down=st.booleans())
    def the_api_server(self, down: bool) -> None:
        self.api.down = down

    @rule()
    def loses_an_answer(self) -> None:
        self.ledgers.lost = True

    @rule(nodes=st.sets(NAMES, max_size=2))
    def refuses_node_caps(self, nodes: set[str]) -> None:
        self.api.refused = nodes

    @rule(name=st.sampled_from(sorted(BUDGETS)), share=st.sampled_from([0.75, 0.9, 1.0, 1.1]))
    def budget(self, name: str, share: float) -> None:
        self.budgets[name] = round(share * BUDGETS[name])
        self.api.edit(*(self._with_budget(raw) for raw in self.api.scene_.domains))

    def _with_budget(self, raw: ports.Document) -> ports.Document:
        meta, spec = raw["metadata"], raw["spec"]
        assert isinstance(meta, dict)
        assert isinstance(spec, dict)
        generation = {**meta, "generation": meta["generation"] + 1}
        return {**raw, "metadata": generation, "spec": {**spec, "budgetWatts": self.budgets[meta["name"]]}}

    @invariant()
    def limits_fit_every_budget(self) -> None:
        """After a cut a domain is allowed what it had, and never more again than it comes down to."""
        for name, allowed_w in self.allowed_w.items():
            servers = [at for node, at in self.fleet.servers.items() if name in ("row-1", NODES[node])]
            enforced_w = sum(grants.grant_w(ONE, at.board_w) for at in servers)
            assert enforced_w <= max(allowed_w, self.budgets[name]) + 1e-6
            self.allowed_w[name] = max(float(self.budgets[name]), min(allowed_w, enforced_w))

    def teardown(self) -> None:
        """Once everybody hears everybody, watts come to who needs them within the budget: nothing is lost for good."""
        if not self.allowed_w:
            return
        self.api.down, self.ledgers.lost, self.api.refused = False, False, set()
        for server in self.fleet.servers.values():
            server.silent, server.watts = False, 700.0
        for _ in range(30):
            self.second()
            self.limits_fit_every_budget()
        held_w = sum(entry.held_w for entry in self.ledgers.stored["row-1"].ledger.entries)
        racks_w = sum(min(self.budgets[rack], 2 * 3773) for rack in ("rack-a", "rack-b"))
        room_w = min(self.budgets["row-1"], racks_w)
        assert held_w >= (1 - 2 * grants.DEAD_RATIO) * room_w, "who is short by less than that is not short"


Live.TestCase.settings = settings(max_examples=6, stateful_step_count=25)
TestLive = Live.TestCase
