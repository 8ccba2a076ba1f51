"""The cells of a study: rates that make a batch, energy per token by hand, and edges that keep the SLO."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model import steady
from capstan.model.profile import ClockResponse, with_clock_response
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import clock, sizing
from capstan.replay.study import surface
from capstan.replay.study.loads import ClassLoad
from support.builders import profile

P = profile()
KIND = ClassLoad("MM", 1.0, Workload(0.0, 600, 200, 0.2), Slo(2.0, 0.1))
REFERENCE_RPS = sizing.capacity_rps(P, KIND.load, KIND.slo, margin=0.9)


@pytest.fixture(scope="module")
def sheet() -> surface.Sheet:
    (only,) = surface.sheets((P,), KIND, reference_rps=REFERENCE_RPS, margin=0.9)
    return only


@settings(max_examples=60)
@given(
    st.floats(1, 8000),
    st.floats(1, 1000),
    st.floats(0, 2),
    st.floats(0.25, 64),
    st.floats(0.3, 1.0),
)
def test_the_rate_of_a_batch_makes_that_batch(prompt: float, output: float, cv2: float, batch: float, x: float) -> None:
    """Or no rate does: batches grow with rates without a jump, so that every steady state holds fewer sequences."""
    load = Workload(0.0, prompt, output, cv2)
    rate_rps = surface._rate_rps(P, load, batch, x)
    if rate_rps is None:
        tried = (steady.operating_point(P, load.at(10 ** (place / 8)), x=x) for place in range(-24, 25))
        assert all(at.batch < batch for at in tried if at is not None)
        return
    at = steady.operating_point(P, load.at(rate_rps), x=x)
    assert at is not None
    assert at.batch == pytest.approx(batch, rel=surface.CLOSE_RATIO)


def test_energy_per_token_is_the_watts_of_all_gpus_over_the_tokens_made(sheet: surface.Sheet) -> None:
    """Four GPUs, 200 tokens an answer: J/token = 4 gpu_w / (200 rps)."""
    for cell in sheet.cells:
        assert cell.j_per_output_token == pytest.approx(4 * cell.gpu_w / (200 * cell.arrival_rps))


def test_a_cell_is_the_planners_own_point(sheet: surface.Sheet) -> None:
    cell = sheet.batches[surface.BATCHES.index(8.0)][0]
    assert cell is not None
    at = sizing.point(P, KIND.load.at(cell.arrival_rps), KIND.slo)
    assert at is not None
    assert (cell.ttft_s, cell.tpot_s, cell.gpu_w, cell.batch) == (at.ttft_s, at.tpot_s, at.gpu_w, at.batch)
    assert cell.stress_ratio == max(at.ttft_s / 2.0, at.tpot_s / 0.1)


def test_the_edge_is_as_full_as_the_margin_allows(sheet: surface.Sheet) -> None:
    for cell in sheet.edge:
        if cell is not None:
            assert cell.stress_ratio <= 0.9 * (1 + 1e-6)
    full = sheet.edge[0]
    assert full is not None
    assert full.arrival_rps == REFERENCE_RPS


def test_a_lower_clock_carries_no_more_inside_the_slo(sheet: surface.Sheet) -> None:
    carried = [0.0 if cell is None else cell.arrival_rps for cell in sheet.edge]
    assert carried == sorted(carried, reverse=True)


def test_loads_are_the_same_requests_at_every_clock(sheet: surface.Sheet) -> None:
    for share, line in zip(surface.LOADS, sheet.loads, strict=True):
        assert {cell.arrival_rps for cell in line if cell is not None} <= {share * REFERENCE_RPS}
        assert line[0] is not None


def test_a_batch_beyond_the_kv_cache_has_no_cell() -> None:
    """Room for 9,000 tokens: eleven sequences of 800; 8 in the mean are up to 15 at once, 4 up to 9."""
    tight = dataclasses.replace(P, kv_tokens=9_000)
    (found,) = surface.sheets((tight,), KIND, reference_rps=0.0, margin=0.9)
    there = {batch: line[0] is not None for batch, line in zip(surface.BATCHES, found.batches, strict=True)}
    assert there[4.0]
    assert not any(there[batch] for batch in surface.BATCHES if batch >= 8)


def test_without_any_set_up_inside_the_slo_there_are_no_loads_and_no_edge() -> None:
    hopeless = dataclasses.replace(KIND, slo=Slo(0.001, 0.001))
    (found,) = surface.sheets((P,), hopeless, reference_rps=0.0, margin=0.9)
    assert {cell for line in (*found.loads, found.edge) for cell in line} == {None}
    assert found.cells  # what comes closest can still be said


def test_clock_responses_differ_in_watts_alone() -> None:
    banded = [with_clock_response(P, response) for response in ClockResponse]
    low, nominal, high = surface.sheets(banded, KIND, reference_rps=REFERENCE_RPS, margin=0.9)
    for a, b, c in zip(low.cells, nominal.cells, high.cells, strict=True):
        assert (a.ttft_s, a.tpot_s, a.arrival_rps) == (b.ttft_s, b.tpot_s, b.arrival_rps)
        assert a.gpu_w <= b.gpu_w <= c.gpu_w
        if a.clock_mhz == P.clocks.max_mhz:
            assert a.gpu_w == c.gpu_w


@pytest.mark.parametrize(
    ("max_mhz", "sixteen_mhz", "twelve_mhz"),
    [(1980, 1590, 1200), (1410, 1125, 840)],
    ids=["H100: 1,600 is no step of 15 from 345", "A100: 0.81 and 0.61 of 1,410"],
)
def test_the_papers_clocks_are_among_those_looked_at(max_mhz: float, sixteen_mhz: float, twelve_mhz: float) -> None:
    least = 345 if max_mhz == 1980 else 210
    one = dataclasses.replace(P, clocks=dataclasses.replace(P.clocks, max_mhz=max_mhz, min_mhz=least))
    found = surface.clocks_mhz(one)
    assert {sixteen_mhz, twelve_mhz} <= set(found)
    assert set(clock.grid_mhz(one)) <= set(found)
    assert list(found) == sorted(found, reverse=True)
    (sheet,) = surface.sheets((one,), KIND, reference_rps=0.0, margin=0.9)
    assert sheet.clocks_mhz[sheet.place(surface.PAPER_SIXTEEN_MHZ)] == sixteen_mhz
