"""What is searched over: an engine's layout and flags, how many of it stand, at which clock.

Who calls it: every file of this room. Must not know: physics, traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Objective(StrEnum):
    """What the best set-up has least of, among those that meet the SLO."""

    JOULES = "joules"
    """Of the GPUs that it holds (the boundary `released`)."""
    GPUS = "gpus"
    """GPUs first, joules among equals: what a search for the cheapest rent looks for."""


@dataclass(frozen=True, slots=True, order=True)
class Engine:
    """One replica's layout and flags.

    Attributes:
        tp, pp: GPUs of a stage, and stages one after the other.
        max_num_seqs, chunk_tokens: vLLM's `--max-num-seqs` of the replica, `--max-num-batched-tokens` of a step.
    """

    tp: int
    pp: int
    max_num_seqs: int
    chunk_tokens: int

    def __post_init__(self) -> None:
        if min(self.tp, self.pp, self.chunk_tokens) < 1 or self.max_num_seqs < self.pp:
            raise ValueError("an engine needs tp, pp and chunk_tokens of at least 1 and a sequence per stage")

    @property
    def gpus(self) -> int:
        """GPUs of a replica."""
        return self.tp * self.pp

    @property
    def layout(self) -> str:
        """Its layout in words."""
        return f"tp {self.tp}" if self.pp == 1 else f"tp {self.tp} pp {self.pp}"

    @property
    def words(self) -> str:
        """Layout and flags in words."""
        return f"{self.layout}, chunk {self.chunk_tokens:,}, {self.max_num_seqs:,} sequences"


@dataclass(frozen=True, slots=True, order=True)
class Setup:
    """`replicas` of an engine, all capped at `clock_mhz` (the highest clock: no cap)."""

    engine: Engine
    replicas: int
    clock_mhz: float

    def __post_init__(self) -> None:
        if self.replicas < 1 or not self.clock_mhz > 0:
            raise ValueError("a set-up needs a replica and a clock above zero")

    @property
    def gpus(self) -> int:
        """GPUs that it holds."""
        return self.replicas * self.engine.gpus

    @property
    def lanes(self) -> int:
        """Batches in flight: one per pipeline stage of every replica (`pipeline`)."""
        return self.replicas * self.engine.pp

    @property
    def words(self) -> str:
        """The whole set-up in words."""
        return f"{self.replicas} x {self.engine.words}, {self.clock_mhz:,.0f} MHz"


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Prefill and decode apart: one pool makes first tokens and hands keys and values over to the other."""

    prefill: Setup
    decode: Setup

    @property
    def gpus(self) -> int:
        """GPUs that both hold."""
        return self.prefill.gpus + self.decode.gpus

    @property
    def words(self) -> str:
        """Both in words."""
        return f"prefill {_short(self.prefill)} + decode {_short(self.decode)}"


def _short(setup: Setup) -> str:
    """Return a pool in words; how many sequences it may hold is the scenario's, or its own business."""
    engine = setup.engine
    return f"{setup.replicas} x {engine.layout}, chunk {engine.chunk_tokens:,}, {setup.clock_mhz:,.0f} MHz"
