"""Energy and latency of one replica over clock x tp x batch x class: the numbers that everything else is read off.

Who calls it: `study.survey`. Must not know: findings, tables, pages.

A batch is the mean number of decoding sequences. In a steady state it is a result, not a setting, so each cell holds
the arrival rate that makes it: engine and queue are those of the planner, and TTFT and TPOT are its quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capstan.model import latency, steady
from capstan.model.profile import Profile
from capstan.model.workload import Workload
from capstan.optimize import clock, sizing
from capstan.replay.study.loads import ClassLoad

BATCHES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Mean decoding sequences, twice as many each; 256 is what an engine runs at once at most (DESIGN 7.1)."""

LOADS = (0.05, 0.25, 0.5, 0.75, 0.9)
"""Loads as shares of what the strongest set-up carries at full clock inside the SLO."""

PAPER_MAX_MHZ, PAPER_SIXTEEN_MHZ, PAPER_TWELVE_MHZ = 1980.0, 1600.0, 1200.0
"""The clocks that both papers compare, on H100 (facts/dynamollm.md 1.4, 4); elsewhere the same shares of the top."""

CLOSE_RATIO = 0.005  # a cell's batch is the one asked for to this share: a tenth of the differences that are read off
LOOKS = 12  # at a rate per cell; the first guess is mostly right to 1 %
PULL = 0.6  # of the correction: batches grow faster than rates, so that a whole one would overshoot


@dataclass(frozen=True, slots=True)
class Cell:
    """One replica in steady state. Latencies at the SLO's percentile; `gpu_w`: the mean of one of its GPUs.

    Attributes:
        stress_ratio: The largest latency over its limit; 1 is the limit.
        j_per_output_token: All GPUs of the replica; prompts are paid for by the tokens that answer them.
    """

    clock_mhz: float
    batch: float
    arrival_rps: float
    ttft_s: float
    tpot_s: float
    kv_usage: float
    stress_ratio: float
    gpu_w: float
    j_per_output_token: float


Line = tuple[Cell | None, ...]
"""Shape `[clock]`, highest first; None where no steady state exists."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One class on one profile, over `clocks_mhz`, highest first.

    Attributes:
        batches: Shape `[batch][clock]`, over `BATCHES`.
        loads: Shape `[load][clock]`, over `LOADS`.
        edge: The most load that the SLO allows, with its margin.
    """

    kind: ClassLoad
    profile: Profile
    clocks_mhz: tuple[float, ...]
    batches: tuple[Line, ...]
    loads: tuple[Line, ...]
    edge: Line

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of the grid and of the edge that exists."""
        lines = (*self.batches, self.edge)
        return tuple(cell for line in lines for cell in line if cell is not None)

    def place(self, paper_mhz: float) -> int:
        """Return the index of the clock that stands where `paper_mhz` does on the papers' GPU."""
        return self.clocks_mhz.index(_named_mhz(self.profile, paper_mhz))


def clocks_mhz(profile: Profile) -> tuple[float, ...]:
    """Return the clocks to look at, highest first: the planner's grid, and the papers' own clocks."""
    named = {_named_mhz(profile, mhz) for mhz in (PAPER_TWELVE_MHZ, PAPER_SIXTEEN_MHZ)}
    return tuple(sorted(named | set(clock.grid_mhz(profile)), reverse=True))


def sheets(responses: Sequence[Profile], kind: ClassLoad, *, reference_rps: float, margin: float) -> tuple[Sheet, ...]:
    """Return one sheet per clock response.

    Args:
        responses: One profile under each of several clock responses: equal but for watts.
        kind: The class.
        reference_rps: What `LOADS` are shares of; 0: nothing keeps the SLO.
        margin: Share of each limit that the edge may use.
    """
    profile = responses[0]
    grid_mhz = clocks_mhz(profile)
    batches = _rates_rps(profile, kind.load, grid_mhz)
    loads = [[share * reference_rps or None] * len(grid_mhz) for share in LOADS]
    edge = [
        sizing.capacity_rps(profile, kind.load, kind.slo, x=profile.clocks.ratio(mhz), margin=margin) or None
        for mhz in grid_mhz
    ]
    return tuple(
        Sheet(
            kind=kind,
            profile=one,
            clocks_mhz=grid_mhz,
            batches=tuple(_line(one, kind, grid_mhz, rates) for rates in batches),
            loads=tuple(_line(one, kind, grid_mhz, rates) for rates in loads),
            edge=_line(one, kind, grid_mhz, edge),
        )
        for one in responses
    )


def _rates_rps(profile: Profile, load: Workload, grid_mhz: Sequence[float]) -> list[tuple[float | None, ...]]:
    """Return the arrival rates that make `BATCHES`, shape `[batch][clock]`."""
    columns = []
    for mhz in grid_mhz:
        column: list[float | None] = []
        for batch in BATCHES:
            beyond = column and column[-1] is None  # what cannot hold a batch holds no larger one
            column.append(None if beyond else _rate_rps(profile, load, batch, profile.clocks.ratio(mhz)))
        columns.append(column)
    return list(zip(*columns, strict=True))


def _named_mhz(profile: Profile, paper_mhz: float) -> float:
    clocks = profile.clocks
    return clocks.snapped_mhz(paper_mhz / PAPER_MAX_MHZ * clocks.max_mhz)


def _line(profile: Profile, kind: ClassLoad, grid_mhz: Sequence[float], rates_rps: Sequence[float | None]) -> Line:
    return tuple(
        None if rate_rps is None else _cell(profile, kind, mhz, rate_rps)
        for mhz, rate_rps in zip(grid_mhz, rates_rps, strict=True)
    )


def _cell(profile: Profile, kind: ClassLoad, clock_mhz: float, rate_rps: float) -> Cell | None:
    at = sizing.point(profile, kind.load.at(rate_rps), kind.slo, x=profile.clocks.ratio(clock_mhz))
    if at is None:
        return None
    return Cell(
        clock_mhz=clock_mhz,
        batch=at.batch,
        arrival_rps=rate_rps,
        ttft_s=at.ttft_s,
        tpot_s=at.tpot_s,
        kv_usage=at.kv_usage,
        stress_ratio=sizing.stress_ratio(at, kind.slo),
        gpu_w=at.gpu_w,
        j_per_output_token=at.gpu_w * profile.tp / (rate_rps * kind.load.output_tokens),
    )


def _rate_rps(profile: Profile, load: Workload, batch: float, x: float) -> float | None:
    """Return the arrival rate at which `batch` sequences decode in the mean; None where no rate does."""
    low_rps, high_rps = 0.0, float("inf")
    rate_rps = _guess_rps(profile, load, batch, x)
    for _ in range(LOOKS):
        at = steady.operating_point(profile, load.at(rate_rps), x=x)
        if at is not None and abs(at.batch - batch) <= CLOSE_RATIO * batch:
            return rate_rps
        if at is None or at.batch > batch:
            high_rps = rate_rps
        else:
            low_rps = rate_rps
        wanted_rps = 0.0 if at is None else rate_rps * (batch / at.batch) ** PULL
        inside = low_rps < wanted_rps < high_rps
        rate_rps = wanted_rps if inside else (low_rps + min(high_rps, 2 * rate_rps)) / 2
    return None


def _guess_rps(profile: Profile, load: Workload, batch: float, x: float) -> float:
    """Return that rate from the step times alone: as many tokens are made as are asked for, beside the prompts."""
    full = max(batch, 1.0)
    context_tokens = full * load.context_tokens
    chunk_tokens = min(load.prompt_tokens, float(profile.chunk_tokens))
    prior_tokens = max(load.prompt_tokens * (1 + load.prompt_cv2_ratio) - chunk_tokens, 0.0) / 2
    step_s = latency.decode_step_s(profile, full, context_tokens, x)
    mixed_s = latency.mixed_step_s(profile, full, context_tokens, chunk_tokens, prior_tokens, x)
    prompt_s = load.prompt_tokens / chunk_tokens * (mixed_s - step_s)
    return batch / (load.output_tokens * step_s + batch * prompt_s)
