"""GPUs of this node: watts and clocks read, locks and limits written; NVML's errors translated once, here.

Who calls it: `app`. Handles are kept open (a fresh nvidia-smi costs 50-80 ms, a call on a handle 6 ms). Any call on a
board may hang, so callers give each index a thread of its own; `uuids` and `lost` ask no board. Traps of nvidia-ml-py
13: `..._v2` of the power setter drops the return code, so v1 and a read-back; its exceptions can be neither compared
nor hashed, so only `.value` is looked at.
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
    pynvml.NVML_ERROR_UNINITIALIZED: "Uninitialized",
    pynvml.NVML_ERROR_RESET_REQUIRED: "ResetRequired",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "LibraryNotFound",
    pynvml.NVML_ERROR_UNKNOWN: "Unknown",
}
_HANDLE_GONE = frozenset({"GPUIsLost", "DriverNotLoaded", "Uninitialized", "ResetRequired"})  # ask for a new handle
REPLICA = "::"  # between a GPU and the number of its share, in the device ids of time-slicing
MIG, OLD_MIG = "MIG-", "MIG-GPU-"  # MIG-<its uuid>; drivers before R470: MIG-GPU-<the board's uuid>/<gi>/<ci>

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
    return Nvml()


class Nvml:
    """All GPUs of the node; one that cannot be read is shown without figures and tried again at every look."""

    def __init__(self) -> None:
        self._gpus: dict[int, _Gpu] = {}
        self._stale: set[int] = set()
        self._failing: dict[int, str] = {}

    def count(self) -> int:
        """Return how many GPUs the node has now. Raises NvmlError."""
        return int(_call("GetCount", pynvml.nvmlDeviceGetCount))

    def uuids(self) -> tuple[str, ...]:
        """Return all GPUs that can be addressed, by index; asks the driver nothing."""
        return tuple(gpu.uuid for _, gpu in sorted(self._known()))

    def missing(self) -> tuple[int, ...]:
        """Return the indices of GPUs that cannot be addressed yet. Raises NvmlError."""
        return tuple(index for index in range(self.count()) if index not in self._gpus or index in self._stale)

    def describe(self, index: int) -> None:
        """Get to know one GPU, or ask for a new handle of it. Raises NvmlError."""
        if index in self._stale:
            _call("nvmlInit", pynvml.nvmlInit)  # a driver that was loaded anew knows us no more; else it only counts
        found = _describe(index)
        self._gpus[index] = found
        self._stale.discard(index)

    def read(self, index: int) -> GpuSample:
        """Return one GPU as it is now; what cannot be read is None."""
        if index not in self._gpus or index in self._stale:
            self._tried(index, partial(self.describe, index))
        if index not in self._gpus or index in self._stale:
            return self.lost(index)
        return self._read(self._gpus[index])

    def lost(self, index: int) -> GpuSample:
        """Return a GPU without figures, as it was described last; asks the driver nothing.

        One that was never described counts as the largest board of the node.
        """
        known = self._gpus.get(index)
        if known is not None:
            return GpuSample(index, known.uuid, None, None, None, None, known.min_limit_w, known.max_limit_w)
        largest_w = max((gpu.max_limit_w for _, gpu in self._known()), default=LARGEST_LIMIT_W)
        return GpuSample(index, f"unreadable-{index}", None, None, None, None, 0.0, largest_w)

    def _known(self) -> list[tuple[int, _Gpu]]:
        return list(self._gpus.items())  # in one step: other threads add to it

    def _read(self, gpu: _Gpu) -> GpuSample:
        """Read each figure by itself: a board that hides one still shows the others."""
        handle = gpu.handle
        power_w = self._tried(gpu.index, lambda: _power_w(gpu))
        energy_mj = _quiet("GetTotalEnergyConsumption", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        clock_mhz = _quiet("GetClockInfo", lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
        limit_mw = _quiet("GetEnforcedPowerLimit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        persistent = _quiet("GetPersistenceMode", lambda: pynvml.nvmlDeviceGetPersistenceMode(handle))
        return GpuSample(
            index=gpu.index,
            uuid=gpu.uuid,
            power_w=power_w,
            energy_j=None if energy_mj is None else units.joules_of_millijoules(energy_mj),
            sm_clock_mhz=None if clock_mhz is None else float(clock_mhz),
            limit_w=None if limit_mw is None else units.watts_of_milliwatts(limit_mw),
            min_limit_w=gpu.min_limit_w,
            max_limit_w=gpu.max_limit_w,
            persistent=None if persistent is None else bool(persistent),
        )

    def _tried(self, index: int, function: Callable[[], T]) -> T | None:
        """Return what `function` finds; None where the driver fails, which is said once."""
        try:
            found = function()
        except NvmlError as error:
            self._say(index, f"{error.word}: {error}")
            if error.word in _HANDLE_GONE and index in self._gpus:
                self._stale.add(index)
            return None
        self._say(index, "")
        return found

    def cap_clock(self, uuid: str, clock_mhz: float) -> float:
        """Lock the SM clock to (lowest supported, highest supported not above `clock_mhz`): a cap, never a pin."""
        gpu = self._of(uuid)
        snapped = next((mhz for mhz in gpu.clocks_mhz if mhz <= clock_mhz), gpu.clocks_mhz[-1])
        lowest = gpu.clocks_mhz[-1]
        _call("SetGpuLockedClocks", lambda: pynvml.nvmlDeviceSetGpuLockedClocks(gpu.handle, lowest, snapped))
        return float(snapped)

    def reset_clock(self, uuid: str) -> None:
        """Lift the lock."""
        gpu = self._of(uuid)
        _call("ResetGpuLockedClocks", lambda: pynvml.nvmlDeviceResetGpuLockedClocks(gpu.handle))

    def limit_power(self, uuid: str, limit_w: float | None, at_most_w: float) -> float:
        """Set the board limit (None: its default), at most `at_most_w`; return what the board enforces.

        The device's own range goes before either.
        """
        gpu = self._of(uuid)
        wanted_w = min(gpu.default_limit_w if limit_w is None else limit_w, at_most_w)
        milliwatts = units.milliwatts_of_watts(min(max(wanted_w, gpu.min_limit_w), gpu.max_limit_w))
        self._persist(gpu)
        _call("SetPowerManagementLimit", lambda: pynvml.nvmlDeviceSetPowerManagementLimit(gpu.handle, milliwatts))
        enforced = _call("GetEnforcedPowerLimit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle))
        return units.watts_of_milliwatts(enforced)

    def physical(self, device_id: str) -> str:
        """Return the board behind a device id of the kubelet: a whole GPU, a share of one, or a MIG instance.

        Raises:
            NvmlError: The driver knows no such instance.
        """
        whole = device_id.partition(REPLICA)[0]
        if whole.startswith(OLD_MIG):
            return whole.removeprefix(MIG).partition("/")[0]
        if not whole.startswith(MIG):
            return whole
        instance = _call("GetHandleByUUID", lambda: pynvml.nvmlDeviceGetHandleByUUID(whole))
        board = _call(
            "GetDeviceHandleFromMigDeviceHandle",
            lambda: pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance),
        )
        return str(_call("DeviceGetUUID", lambda: pynvml.nvmlDeviceGetUUID(board)))

    def _persist(self, gpu: _Gpu) -> None:
        """Keep the driver loaded: without persistence a board forgets its limit with its last client.

        The mode is asked for, not remembered: a driver that was loaded anew has forgotten it.
        """
        if _quiet("GetPersistenceMode", lambda: pynvml.nvmlDeviceGetPersistenceMode(gpu.handle)):
            return
        try:
            _call("SetPersistenceMode", lambda: pynvml.nvmlDeviceSetPersistenceMode(gpu.handle, 1))
        except NvmlError as error:
            self._say(gpu.index, f"{error.word}: {error}; its limit may go with its last client")

    def _of(self, uuid: str) -> _Gpu:
        found = next((gpu for _, gpu in self._known() if gpu.uuid == uuid), None)
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
