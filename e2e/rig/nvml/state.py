"""The state file behind the fake driver, from the other side: what the simulator writes and what tests script.

Who calls it: the simulator (watts and clocks out, caps in) and the tests. The layout is fake_nvml.h's; a test
compares sizes and offsets with the compiled library.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

MAGIC = 0x4C4D564E  # "NVML", little endian
VERSION = 2
MAX_GPUS = 16
TEXT = 64
CALLS_HELD = 24
IGNORES_CLOCKS, IGNORES_LIMITS = 1, 2
HANG_S = 3600.0  # a call that takes this long has hung, for any test


class Call(IntEnum):
    """Calls whose return code and delay can be scripted per GPU; the order is that of `enum capstan_nvml_call`."""

    HANDLE = 0
    POWER_USAGE = 1
    FIELD_VALUES = 2
    ENERGY = 3
    CLOCK_INFO = 4
    SUPPORTED_CLOCKS = 5
    SET_LOCKED_CLOCKS = 6
    RESET_LOCKED_CLOCKS = 7
    SET_LIMIT = 8
    LIMIT_CONSTRAINTS = 9
    ENFORCED_LIMIT = 10
    SET_PERSISTENCE = 11
    EVENT_REASONS = 12
    MIG_MODE = 13
    UUID = 14
    MIG_PARENT = 15


class Gpu(ctypes.LittleEndianStructure):
    """`struct capstan_nvml_gpu`."""

    _pack_ = 1
    _fields_ = (
        ("uuid", ctypes.c_char * TEXT),
        ("name", ctypes.c_char * TEXT),
        ("min_clock_mhz", ctypes.c_uint32),
        ("max_clock_mhz", ctypes.c_uint32),
        ("clock_step_mhz", ctypes.c_uint32),
        ("memory_clock_mhz", ctypes.c_uint32),
        ("locked_min_mhz", ctypes.c_uint32),
        ("locked_max_mhz", ctypes.c_uint32),
        ("limit_mw", ctypes.c_uint32),
        ("default_limit_mw", ctypes.c_uint32),
        ("min_limit_mw", ctypes.c_uint32),
        ("max_limit_mw", ctypes.c_uint32),
        ("sm_clock_mhz", ctypes.c_uint32),
        ("power_mw", ctypes.c_uint32),
        ("energy_mj", ctypes.c_uint64),
        ("event_reasons", ctypes.c_uint64),
        ("persistence", ctypes.c_uint32),
        ("mig", ctypes.c_uint32),
        ("clock_writes", ctypes.c_uint32),
        ("limit_writes", ctypes.c_uint32),
        ("ignores", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("errors", ctypes.c_uint32 * CALLS_HELD),
        ("delays_ms", ctypes.c_uint32 * CALLS_HELD),
    )


class Layout(ctypes.LittleEndianStructure):
    """`struct capstan_nvml_state`."""

    _pack_ = 1
    _fields_ = (
        ("magic", ctypes.c_uint32),
        ("version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("gpu_count", ctypes.c_uint32),
        ("init_error", ctypes.c_uint32),
        ("count_error", ctypes.c_uint32),
        ("gpus", Gpu * MAX_GPUS),
    )


@dataclass(frozen=True, slots=True)
class Product:
    """A GPU model: its clock grid and board limits."""

    name: str
    min_clock_mhz: int
    max_clock_mhz: int
    clock_step_mhz: int
    memory_clock_mhz: int
    min_limit_w: float
    max_limit_w: float
    idle_w: float


# Grids and limits: facts/polca.md 3.2. Idle: splitwise-sim's constants, polca.md 1.5.
H100 = Product("NVIDIA H100 80GB HBM3", 345, 1980, 15, 2619, 200, 700, 75)
A100 = Product("NVIDIA A100-SXM4-80GB", 210, 1410, 15, 1593, 100, 400, 63)


@dataclass(frozen=True, slots=True)
class Caps:
    """What the setter wrote into one GPU; `clock_cap_mhz` None: no lock."""

    clock_cap_mhz: int | None
    power_limit_w: float


@dataclass(frozen=True, slots=True)
class Writes:
    """How many clock and limit writes reached one GPU."""

    clock: int
    limit: int


class State:
    """One node's state file, mapped. Several processes may map the same one; each field has one writer."""

    def __init__(self, path: Path) -> None:
        """Map an existing file.

        Raises:
            ValueError: The file is not a state file of this version.
        """
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size < ctypes.sizeof(Layout):
                raise ValueError(f"{path} is too short for an NVML state file: create it with State.create")
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(Layout))
        self._layout = Layout.from_buffer(self._map)
        if (self._layout.magic, self._layout.version) != (MAGIC, VERSION):
            self.close()
            raise ValueError(f"{path} is not an NVML state file of version {VERSION}: create it anew")

    @classmethod
    def create(cls, path: Path, uuids: Sequence[str], product: Product = H100) -> State:
        """Write a node of idle, uncapped GPUs of one product and map it; it appears whole or not at all."""
        if not 0 < len(uuids) <= MAX_GPUS:
            raise ValueError(f"a node has 1 to {MAX_GPUS} GPUs, not {len(uuids)}")
        layout = Layout(MAGIC, VERSION, ctypes.sizeof(Layout), len(uuids))
        for gpu, uuid in zip(layout.gpus, uuids, strict=False):
            _describe(gpu, uuid, product)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(bytes(layout))
        partial.replace(path)
        return cls(path)

    def close(self) -> None:
        """Unmap the file."""
        del self._layout
        self._map.close()

    @property
    def uuids(self) -> tuple[str, ...]:
        """GPU ids in index order."""
        return tuple(gpu.uuid.decode() for gpu in self._gpus())

    def caps(self, index: int) -> Caps:
        """Return what one GPU was told last."""
        gpu = self._gpu(index)
        return Caps(gpu.locked_max_mhz or None, gpu.limit_mw / 1000)

    def writes(self, index: int) -> Writes:
        """Return how often one GPU was written to."""
        gpu = self._gpu(index)
        return Writes(gpu.clock_writes, gpu.limit_writes)

    def report(
        self, index: int, *, power_w: float, energy_j: float, sm_clock_mhz: float, event_reasons: int = 0
    ) -> None:
        """Show what one GPU does now; `energy_j` counts from the driver's load."""
        gpu = self._gpu(index)
        gpu.power_mw = round(power_w * 1000)
        gpu.energy_mj = round(energy_j * 1000)
        gpu.sm_clock_mhz = round(sm_clock_mhz)
        gpu.event_reasons = event_reasons

    def script_error(self, index: int, call: Call, code: int) -> None:
        """Make a call on one GPU return an NVML code from now on; 0 lets it work again."""
        self._gpu(index).errors[call] = code

    def script_init_error(self, code: int) -> None:
        """Make nvmlInit return a code (driver gone, versions that do not match)."""
        self._layout.init_error = code

    def script_count_error(self, code: int) -> None:
        """Make nvmlDeviceGetCount return a code."""
        self._layout.count_error = code

    def script_delay(self, index: int, call: Call, delay_s: float = HANG_S) -> None:
        """Make a call on one GPU take so long from now on, those that are under way too; 0 lets it answer at once."""
        self._gpu(index).delays_ms[call] = round(delay_s * 1000)

    def ignore(self, index: int, *, clocks: bool = False, limits: bool = False) -> None:
        """Make one GPU accept locks or limits and do nothing with them."""
        self._gpu(index).ignores = clocks * IGNORES_CLOCKS | limits * IGNORES_LIMITS

    def plug_in(self, uuid: str, product: Product = H100) -> None:
        """Add a GPU behind those that there are."""
        _describe(self._layout.gpus[self._layout.gpu_count], uuid, product)
        self._layout.gpu_count += 1

    def set_mig(self, index: int, *, enabled: bool) -> None:
        """Switch MIG mode of one GPU."""
        self._gpu(index).mig = int(enabled)

    def reload_driver(self) -> None:
        """Forget locks, limits, persistence and the joules counted so far, as a driver reload does."""
        for index in range(self._layout.gpu_count):
            self.reset(index)

    def reset(self, index: int) -> None:
        """Forget the same of one GPU, as `nvidia-smi --gpu-reset` does."""
        gpu = self._gpu(index)
        gpu.locked_min_mhz = gpu.locked_max_mhz = 0
        gpu.limit_mw = gpu.default_limit_mw
        gpu.persistence = gpu.energy_mj = 0

    def _gpus(self) -> list[Gpu]:
        return [self._layout.gpus[index] for index in range(self._layout.gpu_count)]

    def _gpu(self, index: int) -> Gpu:
        if not 0 <= index < self._layout.gpu_count:
            raise IndexError(f"GPU {index} of {self._layout.gpu_count}")
        gpu: Gpu = self._layout.gpus[index]
        return gpu


def _describe(gpu: Gpu, uuid: str, product: Product) -> None:
    """Fill in one idle GPU without caps."""
    gpu.uuid = uuid.encode()
    gpu.name = product.name.encode()
    gpu.min_clock_mhz = gpu.sm_clock_mhz = product.min_clock_mhz
    gpu.max_clock_mhz = product.max_clock_mhz
    gpu.clock_step_mhz = product.clock_step_mhz
    gpu.memory_clock_mhz = product.memory_clock_mhz
    gpu.limit_mw = gpu.default_limit_mw = gpu.max_limit_mw = round(product.max_limit_w * 1000)
    gpu.min_limit_mw = round(product.min_limit_w * 1000)
    gpu.power_mw = round(product.idle_w * 1000)
    gpu.persistence = 1
