"""The later part of a run: what arrived from a moment on, and the joules from then on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.classes import Edges
from capstan.replay.experiments import later
from capstan.replay.runs import Energy, Routed, Run
from support import replay


def made() -> Run:
    """Ten requests, one a second; 100 W on 4 GPUs for 4 s, then 300 W on 8 until 10 s."""
    fates = [replay.fate(float(at)) for at in range(10)]
    one = dataclasses.replace(
        replay.service(fates, energy=Energy(1000.0, 800.0, 400.0)),
        series=replay.series([4.0, 10.0], gpus_w=[100.0, 300.0], gpus=[4, 8]),
        gpu_seconds=64.0,
        routed=Routed(np.arange(10) % 9, Edges()),
    )
    return Run("capstan", "virtual time", "made up", 10.0, (one,), shocks_s=(2.0, 7.0), energy_unassigned_j=500.0)


def test_the_joules_of_a_part_are_its_share_of_the_watts() -> None:
    """400 J before 4 s and 1,800 J after: from 6 s on (300 x 4) / 2,200 of every kind."""
    rest = later.rest(made(), 6.0)
    share = 1200 / 2200
    energy = rest.services[0].energy
    assert (energy.serving_j, energy.idle_j, energy.transition_j) == pytest.approx(
        (1000 * share, 800 * share, 400 * share)
    )


def test_gpu_seconds_and_free_gpus_are_shared_out_over_time() -> None:
    """4 GPUs x 4 s + 8 x 6 = 64; from 6 s on 8 x 4 = 32. Of 10 s 4 are left."""
    rest = later.rest(made(), 6.0)
    assert rest.services[0].gpu_seconds == pytest.approx(32.0)
    assert rest.energy_unassigned_j == pytest.approx(200.0)


def test_requests_that_arrived_before_are_left_out_with_their_classes_and_events() -> None:
    rest = later.rest(made(), 6.0)
    outcomes, routed = rest.services[0].outcomes, rest.services[0].routed
    assert outcomes.requests.arrival_s.tolist() == [6.0, 7.0, 8.0, 9.0]
    assert outcomes.first_s.tolist() == [6.5, 7.5, 8.5, 9.5]
    assert routed is not None
    assert routed.codes.tolist() == [6, 7, 8, 0]
    assert rest.shocks_s == (7.0,)


def test_from_the_beginning_on_a_run_is_itself() -> None:
    run = made()
    assert later.rest(run, 0.0) is run


@pytest.mark.parametrize("from_s", [10.0, 11.0])
def test_nothing_is_left_after_the_end(from_s: float) -> None:
    with pytest.raises(ValueError, match="nothing left"):
        later.rest(made(), from_s)


def test_a_service_that_drew_nothing_has_no_joules_left() -> None:
    idle = dataclasses.replace(made().services[0], series=replay.series([10.0], gpus_w=0.0, gpus=0))
    rest = later.rest(dataclasses.replace(made(), services=(idle,)), 5.0)
    assert rest.services[0].energy.total_j == 0.0


@given(first=st.floats(0.1, 9.8), second=st.floats(0.1, 9.8))
def test_a_later_part_has_less_of_everything(first: float, second: float) -> None:
    early, late = (later.rest(made(), at) for at in sorted((first, second)))
    assert late.services[0].energy.total_j <= early.services[0].energy.total_j + 1e-6
    assert late.services[0].gpu_seconds <= early.services[0].gpu_seconds + 1e-9
    assert len(late.services[0].outcomes.requests) <= len(early.services[0].outcomes.requests)
