"""What an agent and its setter need of the world. `app.agent` puts an adapter behind each port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from capstan.model.gpu import GpuSample

SILENT = "SetterSilent"
"""The code of a setter that does not answer: asking for the next GPU would only wait again."""


class Failed(Exception):  # noqa: N818 - the setter's word in the protocol: ok or failed
    """A call to driver or setter failed. `code` is one word of the protocol, `str()` the sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Pod:
    """Whom a GPU belongs to."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class PlannedClock:
    """`spec.plan` of a NodeCap: the clock cap of one pod's GPUs."""

    pod: Pod
    clock_mhz: float


class Gpus(Protocol):
    """The driver, read only; no privilege needed."""

    def sample(self) -> tuple[GpuSample, ...]:
        """Return every GPU of the node; one that cannot be read has no watts, and is never left out or 0 W."""


class Driver(Protocol):
    """The driver, written; root. Every method raises `Failed`."""

    def cap_clock(self, uuid: str, clock_mhz: float) -> float:
        """Cap the SM clock at the highest supported clock not above `clock_mhz`; return that clock."""

    def reset_clock(self, uuid: str) -> None:
        """Lift the cap."""

    def limit_power(self, uuid: str, limit_w: float | None) -> float:
        """Set the board limit within what the device accepts (None: its default); return the enforced one."""

    def uuids(self) -> tuple[str, ...]:
        """Return all GPUs of the node."""


class PodDevices(Protocol):
    """The kubelet's PodResources API."""

    def owners(self) -> Mapping[str, Pod]:
        """Return the pod of every GPU uuid that one holds. Raises `Failed`."""


class Setter(Protocol):
    """The setter, as the agent sees it. Every method raises `Failed`."""

    async def clock(self, uuid: str, clock_mhz: float | None, *, again: bool = False) -> float | None:
        """Cap a GPU's clock (None: lift the cap); return the supported clock that is set.

        What was set before costs no write; `again` writes it nevertheless.
        """

    async def limit(self, uuid: str, limit_w: float | None, *, again: bool = False) -> None:
        """Limit a GPU's board (None: its default)."""

    async def devices(self) -> Mapping[str, Pod]:
        """Return the pod of every GPU uuid that one holds."""

    async def safe(self, clock_mhz: float | None, limit_w: float | None) -> None:
        """Say that we live, and what to apply should we not (None: nothing)."""
