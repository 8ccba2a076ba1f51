"""Sheets and views of a knob study by hand: a test says which figures matter, the rest is quiet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from capstan.model.profile import ClockResponse, Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.replay.study import surface
from capstan.replay.study.loads import ClassLoad
from capstan.replay.study.surface import Cell, Line, Sheet
from capstan.replay.study.survey import Study, View
from support.builders import profile

CLOCKS_MHZ = (1980.0, 1590.0, 1200.0, 900.0, 600.0)
"""Full clock, the papers' two (as a 15 MHz grid has them), and two below."""

FULL, SIXTEEN, TWELVE = 0, 1, 2
MARGIN = 0.9


def kind(name: str = "MM", *, prompt_tokens: float = 500, output_tokens: float = 200, share: float = 1.0) -> ClassLoad:
    """A class of 500 + 200 tokens with the limits of `chat`."""
    return ClassLoad(name, share, Workload(0.0, prompt_tokens, output_tokens), Slo(2.0, 0.1))


def cell(clock_mhz: float = 1980.0, **changes: float) -> Cell:
    """A cell that keeps its SLO and costs a joule per token."""
    base = Cell(
        clock_mhz=clock_mhz,
        batch=1.0,
        arrival_rps=1.0,
        ttft_s=0.2,
        tpot_s=0.02,
        kv_usage=0.1,
        stress_ratio=0.5,
        gpu_w=200.0,
        j_per_output_token=1.0,
    )
    return dataclasses.replace(base, **changes)


def line(joules: Sequence[float | None], **changes: float) -> Line:
    """A cell per clock, highest first, with these joules per token; None: no steady state."""
    return tuple(
        None if j is None else cell(mhz, j_per_output_token=j, **changes)
        for mhz, j in zip(CLOCKS_MHZ, joules, strict=True)
    )


NOTHING: Line = (None,) * len(CLOCKS_MHZ)


def engine(tp: int = 4, **changes: object) -> Profile:
    """The builders' engine at another tp."""
    return profile(**({"name": f"test-tp{tp}", "tp": tp} | changes))


def sheet(
    of: ClassLoad | None = None,
    *,
    tp: int = 4,
    batches: dict[float, Line] | None = None,
    loads: dict[int, Line] | None = None,
    edge: Line = NOTHING,
    runs_on: Profile | None = None,
) -> Sheet:
    """A sheet with these lines by batch, and by place in `surface.LOADS`; all else has no steady state."""
    return Sheet(
        kind=of or kind(),
        profile=runs_on or engine(tp),
        clocks_mhz=CLOCKS_MHZ,
        batches=tuple((batches or {}).get(batch, NOTHING) for batch in surface.BATCHES),
        loads=tuple((loads or {}).get(place, NOTHING) for place in range(len(surface.LOADS))),
        edge=edge,
    )


def view(*sheets: Sheet, response: ClockResponse = ClockResponse.NOMINAL) -> View:
    """Those sheets under one clock response."""
    return View(response, sheets, MARGIN)


def study(*views: View) -> Study:
    """Those views."""
    return Study(views)
