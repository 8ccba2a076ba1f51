"""What an agent and its setter need of the world. `app.agent` and `app.setter` put an adapter behind each port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from capstan.model.gpu import GpuSample

SILENT = "SetterSilent"
"""The code of a setter that does not answer: asking for the next GPU would only wait again."""

HUNG = "Hung"
"""The code of a driver call that has not come back: nobody knows whether it took effect."""


class Failed(Exception):  # noqa: N818 - the setter's word in the protocol: ok or failed
    """A call to driver or setter failed. `code` is one word of the protocol, `str()` the sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, order=True)
class Pod:
    """Whom a GPU belongs to."""

    namespace: str
    name: str


Owners = Mapping[str, tuple[Pod, ...]]
"""The pods of each physical GPU, by uuid: several where it is shared by MIG or time-slicing."""


@dataclass(frozen=True, slots=True)
class PlannedClock:
    """`spec.plan` of a NodeCap: the clock cap of one pod's GPUs."""

    pod: Pod
    clock_mhz: float


@dataclass(frozen=True, slots=True)
class Kept:
    """What a setter knows over its own restart: the safe setting, and what was set last (None: never told)."""

    safe: tuple[float, float] | None
    clocks_mhz: Mapping[str, float]
    limits_w: Mapping[str, float]


NOTHING_KEPT = Kept(None, {}, {})


class Gpus(Protocol):
    """The driver, read only; no privilege needed. Calls may hang: `sampling` gives each GPU a thread."""

    def count(self) -> int:
        """Return how many GPUs the node has now. Raises `Failed`."""

    def read(self, index: int) -> GpuSample:
        """Return one GPU; one that cannot be read has no watts, and is never left out or 0 W."""

    def lost(self, index: int) -> GpuSample:
        """Return a GPU that does not answer, as it was described last; asks the driver nothing."""


class Driver(Protocol):
    """The driver, written; root. Every method raises `Failed` and may hang, except `uuids`."""

    def uuids(self) -> tuple[str, ...]:
        """Return the GPUs that are known by now; asks the driver nothing."""

    def missing(self) -> tuple[int, ...]:
        """Count the node's GPUs and return the indices of those not known yet."""

    def describe(self, index: int) -> None:
        """Get to know one GPU."""

    def cap_clock(self, uuid: str, clock_mhz: float) -> float:
        """Cap the SM clock at the highest supported clock not above `clock_mhz`; return that clock."""

    def reset_clock(self, uuid: str) -> None:
        """Lift the cap."""

    def limit_power(self, uuid: str, limit_w: float | None, at_most_w: float) -> float:
        """Set the board limit (None: its default), at most `at_most_w`; return the enforced one.

        The device's own range goes before either.
        """


class PodDevices(Protocol):
    """The kubelet's PodResources API."""

    def owners(self) -> Owners:
        """Return the pods of every physical GPU that one holds. Raises `Failed`."""


class Memory(Protocol):
    """A file that only the setter writes."""

    def read(self) -> Kept:
        """Return what was kept; `NOTHING_KEPT` where there is nothing that can be read."""

    def write(self, kept: Kept) -> None:
        """Keep it, whole or not at all. Raises OSError."""


class Setter(Protocol):
    """The setter, as the agent sees it. Every method raises `Failed`."""

    async def clock(self, uuid: str, clock_mhz: float | None, *, again: bool = False) -> float | None:
        """Cap a GPU's clock (None: lift the cap); return the supported clock that is set.

        What was set before costs no write; `again` writes it nevertheless.
        """

    async def limit(self, uuid: str, limit_w: float | None, *, again: bool = False) -> None:
        """Limit a GPU's board (None: its default)."""

    async def devices(self) -> Owners:
        """Return the pods of every physical GPU that one holds."""

    async def safe(self, clock_mhz: float | None, limit_w: float | None) -> None:
        """Say that we live, and what to apply should we not (None: nothing)."""
