"""GPUs of this node: watts and clocks read, locks and limits written; NVML's errors translated once, here.

Who calls it: `app.agent`. Handles are kept open (a fresh nvidia-smi costs 50-80 ms, a call on a handle 6 ms). Traps of
nvidia-ml-py 13: `..._v2` of the power setter drops the return code, so v1 and a read-back; its exceptions can be
neither compared nor hashed, so only `.value` is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pynvml

from capstan import units
from capstan.adapters import errors
from capstan.model.gpu import GpuSample

T = TypeVar("T")
FI_DEV_POWER_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT: milliwatts, not the 1 s average of nvmlDeviceGetPowerUsage
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
        NvmlError: No driver, no library, no GPU.
    """
    _call("nvmlInit", pynvml.nvmlInit)
    count = _call("nvmlDeviceGetCount", pynvml.nvmlDeviceGetCount)
    return Nvml(tuple(_describe(index) for index in range(count)))


class Nvml:
    """All GPUs of the node."""

    def __init__(self, gpus: tuple[_Gpu, ...]) -> None:
        self._gpus = {gpu.uuid: gpu for gpu in gpus}
        self._failing: dict[str, str] = {}

    def uuids(self) -> tuple[str, ...]:
        """Return all GPUs, by index."""
        return tuple(self._gpus)

    def sample(self) -> tuple[GpuSample, ...]:
        """Return every GPU that answers; one that fails is left out and said once."""
        readings = []
        for gpu in self._gpus.values():
            try:
                readings.append(_read(gpu))
            except NvmlError as error:
                self._say(gpu.uuid, f"{error.word}: {error}")
            else:
                self._say(gpu.uuid, "")
        return tuple(readings)

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
        _call("SetPowerManagementLimit", lambda: pynvml.nvmlDeviceSetPowerManagementLimit(gpu.handle, milliwatts))
        enforced = _call("GetEnforcedPowerLimit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle))
        return units.watts_of_milliwatts(enforced)

    def _gpu(self, uuid: str) -> _Gpu:
        if uuid not in self._gpus:
            raise NvmlError("UnknownGPU", f"no GPU {uuid} on this node")
        return self._gpus[uuid]

    def _say(self, uuid: str, problem: str) -> None:
        if self._failing.get(uuid, "") != problem:
            self._failing[uuid] = problem
            _log.warning("GPU %s: %s", uuid, problem or "answers again")


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


def _read(gpu: _Gpu) -> GpuSample:
    handle = gpu.handle
    return GpuSample(
        index=gpu.index,
        uuid=gpu.uuid,
        power_w=units.watts_of_milliwatts(_instant_mw(handle)),
        energy_j=units.joules_of_millijoules(
            _call("GetTotalEnergyConsumption", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        ),
        sm_clock_mhz=float(_call("GetClockInfo", lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))),
        limit_w=units.watts_of_milliwatts(
            _call("GetEnforcedPowerLimit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        ),
        min_limit_w=gpu.min_limit_w,
        max_limit_w=gpu.max_limit_w,
    )


def _instant_mw(handle: object) -> float:
    """Return milliwatts of now; where the driver has no instant reading, its average."""
    fields = _call("GetFieldValues", lambda: pynvml.nvmlDeviceGetFieldValues(handle, [FI_DEV_POWER_INSTANT]))
    if fields[0].nvmlReturn == pynvml.NVML_SUCCESS:
        return float(fields[0].value.uiVal)
    return float(_call("GetPowerUsage", lambda: pynvml.nvmlDeviceGetPowerUsage(handle)))


def _call(name: str, function: Callable[[], T]) -> T:
    try:
        return function()
    except pynvml.NVMLError as error:
        word = _WORDS.get(error.value, f"NVML{error.value}")
        raise NvmlError(word, f"{name}: {word}") from error
