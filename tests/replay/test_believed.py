"""Which physics are believed and which are true: from which folder, at which tps, and what is scaled."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from capstan.api import errors, manifests
from capstan.api import scenario as files
from capstan.model import latency, power
from capstan.model.policy import Bounds
from capstan.model.profile import ClockResponse
from capstan.replay import believed
from capstan.replay.nodes import Node
from capstan.replay.options import Options
from support import builders, small
from support.small import BOTH, TP4, TP8

NODES = (Node("gpu-0", 8, builders.H100), Node("gpu-1", 8, builders.H100))
BOTH_TPS = builders.policy(bounds=Bounds(1, 4, tensor_parallel=(4, 8)))


def test_every_tp_of_the_bounds_has_its_profile_ascending() -> None:
    assert believed.believed(BOTH_TPS, (TP8, TP4), NODES) == (TP4, TP8)


def test_a_tp_that_no_server_holds_is_left_out_where_another_fits() -> None:
    assert believed.believed(BOTH_TPS, BOTH, (Node("gpu-0", 4, builders.H100),)) == (TP4,)


@pytest.mark.parametrize(
    ("nodes", "least", "says"),
    [
        ((Node("gpu-0", 2, builders.H100),), 1, "room for 0 replicas of 4 GPUs; add nodes or lower minReplicas"),
        ((Node("gpu-0", 8, builders.H100),), 3, "room for 2 replicas"),
    ],
    ids=["no server holds one", "fewer than the least"],
)
def test_a_fleet_that_is_too_small_is_refused(nodes: tuple[Node, ...], least: int, says: str) -> None:
    policy = builders.policy(bounds=Bounds(least, 4, tensor_parallel=(4, 8)))
    with pytest.raises(errors.Invalid, match=says):
        believed.believed(policy, BOTH, nodes)


def test_a_tp_without_a_profile_is_named_beside_those_that_have_one() -> None:
    policy = builders.policy(bounds=Bounds(1, 4, tensor_parallel=(2, 4)))
    with pytest.raises(
        errors.Invalid, match=r"spec.bounds.tensorParallel: .* at tp \[2\]; profiles exist at tp \[4, 8\]"
    ):
        believed.believed(policy, BOTH, NODES)


def test_the_truth_is_taken_tp_by_tp_and_one_that_is_missing_is_named() -> None:
    slow = tuple(small.slower(profile, 2.0) for profile in (TP8, TP4))
    assert believed.true(BOTH_TPS, BOTH, slow, NODES) == (slow[1], slow[0])
    with pytest.raises(errors.Invalid, match=r"--truth: holds no profile of .* at tp 8; it has tp \[4\]"):
        believed.true(BOTH_TPS, BOTH, (slow[1],), NODES)


def test_a_power_scale_moves_every_watt_but_the_boards_limit_and_no_time() -> None:
    scaled = believed.scaled(TP4, Options(power_scale=1.2))
    assert scaled.timing is TP4.timing
    assert scaled.draw.limit_w == TP4.draw.limit_w
    assert power.idle_w(scaled) == pytest.approx(1.2 * power.idle_w(TP4))
    step_s = latency.decode_step_s(TP4, 8, 8000, 1.0)
    watts = [power.step_w(profile, 8, 8000, step_s, 1.0) for profile in (TP4, scaled)]
    assert watts[1] == pytest.approx(1.2 * watts[0])
    busy_s = latency.mixed_step_s(TP4, 64, 64_000, 448, 0.0, 1.0)
    assert power.step_w(scaled, 512, 64_000, busy_s, 1.0) <= scaled.draw.limit_w
    assert believed.scaled(TP4, Options()) is TP4


def test_every_watt_of_a_draw_is_scaled_or_a_limit() -> None:
    """A watt that is added to `Draw` later must be scaled, too."""
    draw = dataclasses.replace(TP4.draw, context_w=50.0)
    scaled = believed.scaled(dataclasses.replace(TP4, draw=draw), Options(power_scale=2.0)).draw
    for field in dataclasses.fields(draw):
        fixed = field.name in {"limit_w", "min_limit_w", "gamma"}
        assert getattr(scaled, field.name) == getattr(draw, field.name) * (1 if fixed else 2), field.name


def test_a_run_sets_the_engines_limits_and_the_clock_response_of_both_worlds() -> None:
    run = files.Run.model_validate({**small.RUN, "chunkTokens": 1024, "maxNumSeqs": 64})
    asked = believed.as_asked(TP4, run, Options(clock_response=ClockResponse.HIGH))
    assert (asked.chunk_tokens, asked.max_num_seqs, asked.clocks.v_min_ratio) == (1024, 64, 0.85)
    left = believed.as_asked(TP4, files.Run.model_validate({**small.RUN, "chunkTokens": None}), Options())
    assert (left.chunk_tokens, left.max_num_seqs, left.clocks.v_min_ratio) == (512, 256, 0.72)


def test_a_profile_in_the_scenario_comes_before_the_shipped_ones(root: Path) -> None:
    folder = root / "policies" / "profiles"
    own = manifests.load(folder / "llama-3.1-8b-h100-sxm5-80gb-tp8.yaml")
    found = believed.shipped(folder, own)
    assert len(found) == 1 + len(list(folder.glob("*.yaml")))
    assert found[0].name == "llama-3.1-8b-h100-sxm5-80gb-tp8"
    with pytest.raises(errors.Invalid, match=r"--profiles: .*nowhere is no folder"):
        believed.shipped(root / "nowhere", ())
