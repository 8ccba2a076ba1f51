"""GPUs of this node: watts and clocks read, locks and limits written; NVML's errors translated once, here.

Who calls it: `app.agent`. Handles are kept open (a fresh nvidia-smi costs 50-80 ms, a call on a handle 6 ms). Traps of
nvidia-ml-py 13: `..._v2` of the power setter drops the return code, so v1 and a read-back; its exceptions can be
neither compared nor hashed, so only `.value` is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pynvml

from capstan import units
from capstan.adapters import errors
from capstan.model.gpu import GpuSample

T = TypeVar("T")
FI_DEV_POWER_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT: milliwatts, not the 1 s average of nvmlDeviceGetPowerUsage
LARGEST_LIMIT_W = 1200.0  # of any board so far (B200, facts/polca.md 3.2): what one counts as that was never described
ABSURD_RATIO = 4.0  # times the largest limit: a spike is a few percent, a sentinel is millions of watts
_WORDS = {
    pynvml.NVML_ERROR_NO_PERMISSION: "NoPermission",
    pynvml.NVML_ERROR_NOT_SUPPORTED: "NotSupported",
    pynvml.NVML_ERROR_INVALID_ARGUMENT: "InvalidArgument",
    pynvml.NVML_ERROR_GPU_IS_LOST: "GPUIsLost",
    pynvml.NVML_ERROR_TIMEOUT: "Timeout",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "DriverNotLoaded",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "LibraryNotFound",
    pynvml.NVML_ERROR_UNKNOWN: "Unknown",
}

_log = logging.getLogger(__name__)


class NvmlError(errors.AdapterError):
    """An NVML call failed; `word` is one of a closed list."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


@dataclass(frozen=True, slots=True)
class _Gpu:
    """What does not change while the driver is loaded."""

    index: int
    uuid: str
    handle: object
    clocks_mhz: tuple[int, ...]  # supported, descending
    min_limit_w: float
    max_limit_w: float
    default_limit_w: float


def open_driver() -> Nvml:
    """Return the driver of this node.

    Raises:
        NvmlError: No driver, no library.
    """
    _call("nvmlInit", pynvml.nvmlInit)
    return Nvml(_call("nvmlDeviceGetCount", pynvml.nvmlDeviceGetCount))


class Nvml:
    """All GPUs of the node; one that cannot be read is shown without figures and tried again at every sample."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._gpus: dict[int, _Gpu] = {}
        self._failing: dict[int, str] = {}
        self._persistent: set[str] = set()
        self._describe()

    def uuids(self) -> tuple[str, ...]:
        """Return all GPUs that can be addressed, by index."""
        return tuple(gpu.uuid for _, gpu in sorted(self._gpus.items()))

    def sample(self) -> tuple[GpuSample, ...]:
        """Return every GPU of the node, by index."""
        self._describe()
        largest_w = max((gpu.max_limit_w for gpu in self._gpus.values()), default=LARGEST_LIMIT_W)
        lost = (GpuSample(i, f"unreadable-{i}", None, None, None, None, 0.0, largest_w) for i in range(self._count))
        return tuple(self._read(self._gpus[one.index]) if one.index in self._gpus else one for one in lost)

    def _describe(self) -> None:
        for index in range(self._count):
            if index not in self._gpus:
                found = self._tried(index, partial(_describe, index))
                if found is not None:
                    self._gpus[index] = found

    def _read(self, gpu: _Gpu) -> GpuSample:
        """Read each figure by itself: a board that hides one still shows the others."""
        handle = gpu.handle
        power_w = self._tried(gpu.index, lambda: _power_w(gpu))
        energy_mj = _quiet("GetTotalEnergyConsumption", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        clock_mhz = _quiet("GetClockInfo", lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
        limit_mw = _quiet("GetEnforcedPowerLimit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        return GpuSample(
            index=gpu.index,
            uuid=gpu.uuid,
            power_w=power_w,
            energy_j=None if energy_mj is None else units.joules_of_millijoules(energy_mj),
            sm_clock_mhz=None if clock_mhz is None else float(clock_mhz),
            limit_w=None if limit_mw is None else units.watts_of_milliwatts(limit_mw),
            min_limit_w=gpu.min_limit_w,
            max_limit_w=gpu.max_limit_w,
        )

    def _tried(self, index: int, function: Callable[[], T]) -> T | None:
        """Return what `function` finds; None where the driver fails, which is said once."""
        try:
            found = function()
        except NvmlError as error:
            self._say(index, f"{error.word}: {error}")
            return None
        self._say(index, "")
        return found

    def cap_clock(self, uuid: str, clock_mhz: float) -> float:
        """Lock the SM clock to (lowest supported, highest supported not above `clock_mhz`): a cap, never a pin."""
        gpu = self._gpu(uuid)
        snapped = next((mhz for mhz in gpu.clocks_mhz if mhz <= clock_mhz), gpu.clocks_mhz[-1])
        lowest = gpu.clocks_mhz[-1]
        _call("SetGpuLockedClocks", lambda: pynvml.nvmlDeviceSetGpuLockedClocks(gpu.handle, lowest, snapped))
        return float(snapped)

    def reset_clock(self, uuid: str) -> None:
        """Lift the lock."""
        gpu = self._gpu(uuid)
        _call("ResetGpuLockedClocks", lambda: pynvml.nvmlDeviceResetGpuLockedClocks(gpu.handle))

    def limit_power(self, uuid: str, limit_w: float | None) -> float:
        """Set the board limit within the device's range (None: its default); return what the board enforces."""
        gpu = self._gpu(uuid)
        wanted_w = gpu.default_limit_w if limit_w is None else min(max(limit_w, gpu.min_limit_w), gpu.max_limit_w)
        milliwatts = units.milliwatts_of_watts(wanted_w)
        self._persist(gpu)
        _call("SetPowerManagementLimit", lambda: pynvml.nvmlDeviceSetPowerManagementLimit(gpu.handle, milliwatts))
        enforced = _call("GetEnforcedPowerLimit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle))
        return units.watts_of_milliwatts(enforced)

    def _persist(self, gpu: _Gpu) -> None:
        """Keep the driver loaded: without persistence a board forgets its limit with its last client."""
        if gpu.uuid not in self._persistent:
            self._persistent.add(gpu.uuid)
            _quiet("SetPersistenceMode", lambda: pynvml.nvmlDeviceSetPersistenceMode(gpu.handle, 1))

    def _gpu(self, uuid: str) -> _Gpu:
        found = next((gpu for gpu in self._gpus.values() if gpu.uuid == uuid), None)
        if found is None:
            raise NvmlError("UnknownGPU", f"no GPU {uuid} on this node")
        return found

    def _say(self, index: int, problem: str) -> None:
        if self._failing.get(index, "") != problem:
            self._failing[index] = problem
            _log.warning("GPU %d: %s", index, problem or "answers again")


def _describe(index: int) -> _Gpu:
    handle = _call("DeviceGetHandleByIndex", lambda: pynvml.nvmlDeviceGetHandleByIndex(index))
    memory = _call("GetSupportedMemoryClocks", lambda: pynvml.nvmlDeviceGetSupportedMemoryClocks(handle))
    clocks = _call(
        "GetSupportedGraphicsClocks", lambda: pynvml.nvmlDeviceGetSupportedGraphicsClocks(handle, max(memory))
    )
    low, high = _call(
        "GetPowerManagementLimitConstraints", lambda: pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
    )
    default = _call("GetPowerManagementDefaultLimit", lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
    return _Gpu(
        index=index,
        uuid=str(_call("DeviceGetUUID", lambda: pynvml.nvmlDeviceGetUUID(handle))),
        handle=handle,
        clocks_mhz=tuple(sorted((int(mhz) for mhz in clocks), reverse=True)),
        min_limit_w=units.watts_of_milliwatts(low),
        max_limit_w=units.watts_of_milliwatts(high),
        default_limit_w=units.watts_of_milliwatts(default),
    )


def _power_w(gpu: _Gpu) -> float:
    """Return watts of now. Raises NvmlError where the driver shows none, or a figure that no board can draw."""
    watts = units.watts_of_milliwatts(_instant_mw(gpu.handle))
    if not 0 < watts <= ABSURD_RATIO * gpu.max_limit_w:
        raise NvmlError("Absurd", f"power reads {watts:.0f} W on a board of {gpu.max_limit_w:.0f} W")
    return watts


def _instant_mw(handle: object) -> float:
    """Return milliwatts of now; where the driver has no instant reading, its average."""
    fields = _call("GetFieldValues", lambda: pynvml.nvmlDeviceGetFieldValues(handle, [FI_DEV_POWER_INSTANT]))
    if fields[0].nvmlReturn == pynvml.NVML_SUCCESS:
        return float(fields[0].value.uiVal)
    return float(_call("GetPowerUsage", lambda: pynvml.nvmlDeviceGetPowerUsage(handle)))


def _quiet(name: str, function: Callable[[], T]) -> T | None:
    """Return a figure that may be missing without harm."""
    try:
        return _call(name, function)
    except NvmlError:
        return None


def _call(name: str, function: Callable[[], T]) -> T:
    try:
        return function()
    except pynvml.NVMLError as error:
        word = _WORDS.get(error.value, f"NVML{error.value}")
        raise NvmlError(word, f"{name}: {word}") from error
