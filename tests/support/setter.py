"""A setter in process: a driver that records and can fail or hang per GPU, a kubelet, a memory, a clock of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from capstan.agent.limits import Limits
from capstan.agent.ports import NOTHING_KEPT, Failed, Kept, Pod
from capstan.agent.setter import Setter
from capstan.model.gpu import GpuSample

FLOOR_MHZ, CEILING_MHZ = 600.0, 1900.0
FLOOR_W, CEILING_W = 150.0, 650.0
STOCK_MHZ, STOCK_W, LOWEST_W = 1980.0, 700.0, 200.0


class Board:
    """What a driver holds for one GPU."""

    def __init__(self) -> None:
        self.clock_mhz: float | None = None
        self.limit_w = STOCK_W
        self.energy_j = 1000.0


class Driver:
    """Boards that do what they are told. Implements `Driver` and `Gpus`; every write and its values are recorded."""

    def __init__(self, uuids: tuple[str, ...] = ("a", "b")) -> None:
        self.boards = {uuid: Board() for uuid in uuids}
        self.writes: list[tuple[str, str, float | None]] = []
        self.enforced_w: list[float] = []
        self.failing: set[str] = set()
        self.hanging: dict[str, threading.Event] = {}

    # --- writes

    def uuids(self) -> tuple[str, ...]:
        return tuple(self.boards)

    def missing(self) -> tuple[int, ...]:
        return ()

    def describe(self, index: int) -> None:
        """Nothing to learn."""

    def cap_clock(self, uuid: str, clock_mhz: float) -> float:
        board = self._board(uuid)
        self.writes.append(("clock", uuid, clock_mhz))
        board.clock_mhz = clock_mhz
        return clock_mhz

    def reset_clock(self, uuid: str) -> None:
        board = self._board(uuid)
        self.writes.append(("clock", uuid, None))
        board.clock_mhz = None

    def limit_power(self, uuid: str, limit_w: float | None, at_most_w: float) -> float:
        board = self._board(uuid)
        self.writes.append(("limit", uuid, limit_w))
        board.limit_w = max(min(STOCK_W if limit_w is None else limit_w, at_most_w), LOWEST_W)
        self.enforced_w.append(board.limit_w)
        return board.limit_w

    # --- reads

    def count(self) -> int:
        return len(self.boards)

    def read(self, index: int) -> GpuSample:
        """A GPU under full load: its clock is at its cap."""
        uuid = tuple(self.boards)[index]
        board = self._board(uuid)
        clock_mhz = board.clock_mhz or STOCK_MHZ
        return GpuSample(index, uuid, 300.0, board.energy_j, clock_mhz, board.limit_w, LOWEST_W, STOCK_W)

    def lost(self, index: int) -> GpuSample:
        return GpuSample(index, tuple(self.boards)[index], None, None, None, None, LOWEST_W, STOCK_W)

    # --- faults

    def forget(self, uuid: str) -> None:
        """Reset one GPU."""
        self.boards[uuid] = Board()
        self.boards[uuid].energy_j = 0.0

    def hang(self, uuid: str) -> None:
        """Let calls on a GPU hang until `come_back`."""
        self.hanging[uuid] = threading.Event()

    def come_back(self, uuid: str) -> None:
        """Let them go on."""
        self.hanging.pop(uuid).set()

    def _board(self, uuid: str) -> Board:
        if uuid in self.hanging:
            self.hanging[uuid].wait()
        if uuid in self.failing:
            raise Failed("GPUIsLost", uuid)
        return self.boards[uuid]


class Kubelet:
    """Knows one pod, on the first GPU."""

    def owners(self) -> Mapping[str, tuple[Pod, ...]]:
        return {"a": (Pod("llm", "chat-1"),)}


class Memory:
    """A file that survives a setter."""

    def __init__(self, kept: Kept = NOTHING_KEPT) -> None:
        self.kept = kept

    def read(self) -> Kept:
        return self.kept

    def write(self, kept: Kept) -> None:
        self.kept = Kept(kept.safe, dict(kept.clocks_mhz), dict(kept.limits_w))


RANGE = Limits(FLOOR_MHZ, CEILING_MHZ, FLOOR_W, CEILING_W)
WIDE = Limits(1.0)


class Bench:
    """A setter whose time stands still until it is told; `restart` is a new process on the same boards and memory."""

    def __init__(self, limits: Limits = WIDE, driver: Driver | None = None) -> None:
        self.driver, self.memory, self.now_s = driver or Driver(), Memory(), 100.0
        self.limits = limits
        self.restart()

    def restart(self) -> None:
        """Start it anew."""
        self.setter = Setter(self.driver, Kubelet(), self.memory, self.limits, lambda: self.now_s)

    async def ask(self, **asked: object) -> dict[str, object]:
        """Ask one line."""
        return await self.setter.answer(json.dumps(asked).encode())

    async def silence(self, seconds: float) -> None:
        """Let time pass with the watchdog looking every quarter of a second."""
        for _ in range(int(seconds * 4)):
            self.now_s += 0.25
            await self.setter.watch()

    def caps(self) -> list[tuple[float | None, float]]:
        """Clock and limit of every board."""
        return [(board.clock_mhz, board.limit_w) for board in self.driver.boards.values()]
