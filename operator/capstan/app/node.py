"""The node's side of the agent's and the setter's ports: NVML, the kubelet, and the two small files that they keep.

Who calls it: `app.agent` and `app.setter`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from capstan.adapters import errors, nvml
from capstan.adapters.nvml.device import NvmlError
from capstan.agent.lease import Lease
from capstan.agent.ports import NOTHING_KEPT, Failed, Kept, Owners, Pod
from capstan.model.gpu import GpuSample
from capstan.powercap.domains import SafeSetting

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Driver:
    """Implements `agent.ports.Gpus` and `Driver` over NVML."""

    def __init__(self, driver: nvml.Nvml) -> None:
        self._driver = driver

    def count(self) -> int:
        """Return how many GPUs the node has now."""
        return _told(self._driver.count)

    def read(self, index: int) -> GpuSample:
        """Return one GPU."""
        return self._driver.read(index)

    def lost(self, index: int) -> GpuSample:
        """Return a GPU that does not answer."""
        return self._driver.lost(index)

    def uuids(self) -> tuple[str, ...]:
        """Return all GPUs that are known."""
        return self._driver.uuids()

    def missing(self) -> tuple[int, ...]:
        """Return the indices of GPUs that are not known yet."""
        return _told(self._driver.missing)

    def describe(self, index: int) -> None:
        """Get to know one GPU."""
        _told(lambda: self._driver.describe(index))

    def cap_clock(self, uuid: str, clock_mhz: float) -> float:
        """Cap the SM clock."""
        return _told(lambda: self._driver.cap_clock(uuid, clock_mhz))

    def reset_clock(self, uuid: str) -> None:
        """Lift the cap."""
        _told(lambda: self._driver.reset_clock(uuid))

    def limit_power(self, uuid: str, limit_w: float | None, at_most_w: float) -> float:
        """Set the board limit."""
        return _told(lambda: self._driver.limit_power(uuid, limit_w, at_most_w))


def _told(function: Callable[[], T]) -> T:
    """Return what the driver returns; its errors are the setter's words."""
    try:
        return function()
    except NvmlError as error:
        raise Failed(error.word, str(error)) from error


class Kubelet:
    """Implements `agent.ports.PodDevices`: device ids of the kubelet, told as physical boards.

    Args:
        listed: PodResources: (namespace, name) by device id. Raises AdapterError.
        physical: The board of a device id. Raises NvmlError.
    """

    def __init__(self, listed: Callable[[], Mapping[str, tuple[str, str]]], physical: Callable[[str], str]) -> None:
        self._listed = listed
        self._physical = physical
        self._boards: dict[str, str] = {}
        self._strange: frozenset[str] = frozenset()

    def owners(self) -> Owners:
        """Return the pods of every board that one holds, each board once; an id without a board is logged."""
        try:
            listed = self._listed()
        except errors.AdapterError as error:
            raise Failed("PodResources", str(error)) from error
        found = {device: self._board(device) for device in listed}
        self._boards = {device: board for device, board in found.items() if board is not None}
        self._say(frozenset(found.keys() - self._boards.keys()))
        pods: dict[str, set[Pod]] = {}
        for device, board in self._boards.items():
            pods.setdefault(board, set()).add(Pod(*listed[device]))
        return {board: tuple(sorted(held)) for board, held in pods.items()}

    def _board(self, device: str) -> str | None:
        """Return the board of a device id, asked of the driver once while the id is listed."""
        if device in self._boards:
            return self._boards[device]
        try:
            return self._physical(device)
        except NvmlError:
            return None

    def _say(self, strange: frozenset[str]) -> None:
        if strange - self._strange:
            _log.warning("device ids of no board that the driver knows: %s", ", ".join(sorted(strange)))
        self._strange = strange


class AgentFile:
    """The agent's own file: a restarted agent starts in the safe setting, and heeds no controller of yesterday."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "safe.json"

    def write(self, safe: SafeSetting, epoch: int) -> None:
        """Keep both, whole or not at all. Raises OSError."""
        _write(self._path, {**asdict(safe), "epoch": epoch})

    def read(self) -> Lease:
        """Return a lease that nobody renewed yet, with what was kept; without what cannot be read."""
        document = _read(self._path) or {}
        clock_mhz, limit_w = _value(document, "clock_mhz"), _value(document, "power_limit_w")
        safe = None if clock_mhz is None or limit_w is None else SafeSetting(clock_mhz, limit_w)
        return Lease(safe=safe, epoch=int(_value(document, "epoch") or 0))


class SetterFile:
    """The setter's own file; implements `agent.ports.Memory`. No other process writes it: root trusts nobody's."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "setter.json"

    def write(self, kept: Kept) -> None:
        """Keep it, whole or not at all. Raises OSError."""
        safe = None if kept.safe is None else {"megahertz": kept.safe[0], "watts": kept.safe[1]}
        _write(self._path, {"safe": safe, "megahertz": dict(kept.clocks_mhz), "watts": dict(kept.limits_w)})

    def read(self) -> Kept:
        """Return what was kept; whatever cannot be read is left out."""
        document = _read(self._path)
        if document is None:
            return NOTHING_KEPT
        safe = document.get("safe")
        clock_mhz, limit_w = (_value(safe, name) if isinstance(safe, dict) else None for name in ("megahertz", "watts"))
        return Kept(
            None if clock_mhz is None or limit_w is None else (clock_mhz, limit_w),
            _values(document.get("megahertz")),
            _values(document.get("watts")),
        )


def _write(path: Path, document: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(document), encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> dict[str, object] | None:
    """Return the object of a file; None where there is none, which is logged unless the file was never written."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as problem:
        _log.warning("%s cannot be read, starting without: %s", path, problem)
        return None
    if not isinstance(document, dict):
        _log.warning("%s holds no object, starting without", path)
        return None
    return document


def _value(document: Mapping[str, object], name: str) -> float | None:
    """Return a number above zero, None for anything else."""
    value = document.get(name)
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    return float(value) if fits and isinstance(value, int | float) else None


def _values(document: object) -> dict[str, float]:
    found = {name: _value(document, name) for name in document} if isinstance(document, dict) else {}
    return {name: value for name, value in found.items() if value is not None}
