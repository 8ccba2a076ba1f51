"""What the power loop needs of the world. `app.power` puts an adapter behind each port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from capstan.powercap.domains import ClassCaps
from capstan.powercap.ledger import Ledger

Document = dict[str, object]


class Refused(Exception):  # noqa: N818 - the field's word: a write is refused
    """The API server did not do it; `str()` is its message. The next tick tries again."""


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node with GPUs: its labels, and where its agent listens (None: no agent pod)."""

    name: str
    labels: Mapping[str, str]
    agent: str | None


@dataclass(frozen=True, slots=True)
class PodSeen:
    """An engine pod on a node; `policy` is the key of its ServingPolicy."""

    namespace: str
    name: str
    node: str
    policy: str


@dataclass(frozen=True, slots=True)
class NodePower:
    """`spec.power` of a NodeCap as it is in the API server, and the version of the whole object."""

    epoch: int
    sequence: int
    document: Document
    version: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """What one tick sees of the cluster, from caches."""

    domains: tuple[Document, ...] = ()
    policies: Mapping[str, Document] = field(default_factory=dict)
    nodes: Mapping[str, NodeSeen] = field(default_factory=dict)
    pods: tuple[PodSeen, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    node_powers: Mapping[str, NodePower] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeaseCall:
    """One renewal: `caps` may only tighten what the agent has."""

    node: str
    address: str
    epoch: int
    sequence: int
    lease_s: int
    caps: ClassCaps


@dataclass(frozen=True, slots=True)
class GpuReport:
    """One GPU as its agent sampled it.

    Attributes:
        power_w: None: unreadable now, or not to be believed.
        clock_cap_mhz: What the setter made of our cap; None: no cap.
        clock_verified, limit_verified: Whether the setting shows its effect; None: no telling yet.
        enforced_limit_w: The board limit as the device enforces it; None: unknown.
        persistent: Whether the board keeps its limit without a process; None: unknown.
    """

    index: int
    namespace: str
    pod: str
    power_w: float | None
    max_power_w: float
    min_power_w: float
    clock_cap_mhz: float | None
    clock_verified: bool | None = None
    limit_verified: bool | None = None
    enforced_limit_w: float | None = None
    persistent: bool | None = None


@dataclass(frozen=True, slots=True)
class AgentReport:
    """An agent's answer.

    Attributes:
        age_s: Of its sample when it answered.
        safe: The node is in its safe setting.
        problems: What the agent says of its GPUs that cannot be set, or that we do not believe, in words.
        caps: What the node's lease holds; None: an agent that does not say.
        kept: (epoch, sequence) of the newest NodeCap that a restart of the agent would find; None: it does not say.
    """

    node: str
    epoch: int
    sequence: int
    sample_sequence: int
    age_s: float
    safe: bool
    gpus: tuple[GpuReport, ...]
    problems: tuple[str, ...] = ()
    caps: ClassCaps | None = None
    kept: tuple[int, int] | None = None

    @property
    def gpus_w(self) -> float:
        """DC watts of all GPUs of the node; one that cannot be read counts at its largest limit, never as nothing."""
        return sum(gpu.max_power_w if gpu.power_w is None else gpu.power_w for gpu in self.gpus)


@dataclass(frozen=True, slots=True)
class Outdated:
    """An agent knows a newer epoch or sequence than the one it was called with."""

    node: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a slow meter said: a value with its age when it was read, or why there is none."""

    value_w: float | None
    age_s: float
    read_s: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Transition:
    """A domain changed its state, or something about it that a person must know of."""

    domain: Document
    note: str
    reason: str
    warning: bool


@dataclass(frozen=True, slots=True)
class StoredLedger:
    """A ledger as the API server has it, and the version to swap it at."""

    ledger: Ledger
    version: str


class Ledgers(Protocol):
    """The ledgers of the root domains, asked of the API server itself and of no cache. Each raises `Refused`."""

    async def read(self, root: str) -> StoredLedger | None:
        """Return a root's ledger; None: there is none."""

    async def swap(self, root: str, ledger: Ledger, version: str) -> StoredLedger:
        """Replace what is at `version` (empty: nothing is there yet); refused where somebody wrote meanwhile."""

    async def drop(self, root: str, version: str) -> None:
        """Delete a ledger at its version: its tree grants nothing any more."""


class Cluster(Protocol):
    """The caches of the cluster."""

    def scene(self) -> Scene:
        """Return what is cached now; no I/O."""


class Agents(Protocol):
    """The agents on the nodes."""

    async def renew(self, calls: tuple[LeaseCall, ...]) -> Mapping[str, AgentReport | Outdated]:
        """Call every agent at once; one that does not answer in time is absent. Never raises."""


class Meters(Protocol):
    """The slow meters, read beside the loop."""

    def ask(self, queries: frozenset[str]) -> None:
        """Say what is to be read from now on; no I/O."""

    def said(self, query: str) -> Reading | None:
        """Return what a query last yielded; None: not read yet. No I/O."""


class Writer(Protocol):
    """Writes to the API server; each raises `Refused` and nothing else."""

    async def node_cap(self, document: Document) -> None:
        """Apply `spec.power` of a NodeCap with our field manager."""

    async def status(self, domain: Document, status: Document) -> None:
        """Replace the status of a PowerDomain."""

    async def finalizer(self, domain: Document, *, present: bool) -> None:
        """Put our finalizer on a PowerDomain, or take it away."""

    async def event(self, transition: Transition) -> None:
        """Post an Event about a domain."""
