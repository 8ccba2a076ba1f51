"""What serving needs of the world, and the one error that the world may answer with.

Who calls it: the rest of `serving`; `app` puts an adapter behind each port. Nothing here knows which.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from capstan.journal import record
from capstan.model import past, reading
from capstan.serving.cluster import Snapshot
from capstan.serving.manifest import Manifest
from capstan.serving.report import Report


class Refusal(StrEnum):
    """Why the API server did not do it. The first two pass by themselves; the others need somebody."""

    UNAVAILABLE = "Unavailable"  # unreachable, slow, overloaded
    CONFLICT = "Conflict"  # the object moved on since it was looked at, or is gone
    REJECTED = "Rejected"  # validation or admission said no
    DENIED = "Denied"  # our ServiceAccount may not


class Refused(Exception):  # noqa: N818 - the field's word: a write is refused
    """A write was not done. `str()` is the server's own message; `resting`: it was not even tried again yet."""

    def __init__(self, refusal: Refusal, message: str, *, resting: bool = False) -> None:
        super().__init__(message)
        self.refusal = refusal
        self.resting = resting


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event about a policy; `warning` False means Normal."""

    policy: Manifest
    reason: str
    note: str
    warning: bool = False


class Cluster(Protocol):
    """The cache of cluster objects."""

    def snapshot(self) -> Snapshot:
        """Return what is cached now, with the age of the oldest cache; no I/O."""

    def follow(self, namespaces: frozenset[str]) -> None:
        """Also cache every pod of these namespaces: policies with `targets` live there, their pods lack our label."""


class Writer(Protocol):
    """Writes to the API server. Every method raises `Refused` and nothing else."""

    async def apply(self, document: Manifest, *, dry_run: bool = False) -> Manifest:
        """Server-side apply with our field manager (forced: only our fields are in it); return the object."""

    async def scale(self, workload: str, replicas: int, *, resource_version: str) -> None:
        """Set the replicas of Deployment `namespace/name` through `/scale`, if it is still at `resource_version`."""


class Reporter(Protocol):
    """Says what happened, in the API. Every method raises `Refused` and nothing else."""

    async def status(self, policy: Manifest, status: Manifest) -> None:
        """Replace the status of a policy."""

    async def event(self, event: Event) -> None:
        """Post an Event."""


class Telemetry(Protocol):
    """What Prometheus says."""

    async def read(self) -> reading.Readings:
        """Return the newest readings of every engine pod; a source that fails is inside the answer, never raised."""


class History(Protocol):
    """What Prometheus remembers of the load of the last weeks. Read beside the cycle, which never waits for it."""

    @property
    def problem(self) -> str:
        """Why something could not be read lately, empty where all could."""

    def follow(self, asks: Iterable[past.Ask]) -> None:
        """Read the past of these policies from now on, and of no others."""

    def past(self, ask: past.Ask) -> past.Past | None:
        """Return what was read last: the same object while nothing changed; None before the first answer."""


class Meter(Protocol):
    """Publishes figures of a cycle."""

    def cycle(self, report: Report) -> None:
        """Take one cycle's report; never raises."""


class Clock(Protocol):
    """The time."""

    def now_s(self) -> float:
        """Return seconds since the epoch: what Prometheus and the API server call now."""

    def monotonic_s(self) -> float:
        """Return seconds that no clock change moves: what waits and durations are counted in."""


class Recorder(Protocol):
    """Keeps cycles for later."""

    def write(self, cycle: record.Cycle) -> None:
        """Keep one cycle; never raises."""
