"""`dynamo-load` beside NVIDIA's real planner on the case of facts/autoscalers.md 1.4: the same scale-ups within a tick.

Their case: aggregated engines, threshold mode, start-up 40 s, 60 requests/s of 1024 / 256 tokens, 64 sequences.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from capstan.model.policy import Bounds
from capstan.replay.autoscalers import defaults
from capstan.replay.autoscalers.registry import VARIANTS
from support import autoscalers as fake
from support import builders, closed_loop, dynamo_planner

TICK_S = defaults.DynamoLoad().period_s
BLOCKS, BLOCK_TOKENS = 16_384, 16
KNOWN = [(5.0, 1, 2), (50.0, 2, 3), (95.0, 3, 4), (140.0, 4, 5), (185.0, 5, 6), (230.0, 6, 7), (275.0, 7, 8)]
"""What ai-dynamo 1.4.2 printed here: one replica per 45 s, 1 -> 8 in 275 s. Held against the program itself below."""


def ours(*, telemetry_s: float = 5.0) -> list[tuple[float, int, int]]:
    """Return our scale-ups. Served in 11.9 s: 256 steps of 46.5 ms, as the test profile has it at 64 sequences."""
    profile = builders.profile(kv_tokens=BLOCKS * BLOCK_TOKENS, max_num_seqs=64, startup_s=40)
    base = fake.service(1)
    policy = dataclasses.replace(base.policy, bounds=Bounds(1, 8, tensor_parallel=(4,)))
    service = dataclasses.replace(base, policy=policy, profiles=(profile,))
    case = closed_loop.Case(
        rate_rps=60.0,
        prompt_tokens=1024,
        output_tokens=256,
        kv_tokens=profile.kv_tokens,
        places=64,
        serve_s=11.9,
        startup_s=40.0,
        telemetry_s=telemetry_s,
        until_s=300.0,
    )
    return closed_loop.played(VARIANTS["dynamo-load-throughput"](), service, case)


def assert_same(got: list[tuple[float, int, int]], expected: list[tuple[float, int, int]]) -> None:
    """Same steps, each within one tick."""
    assert [step[1:] for step in got] == [step[1:] for step in expected]
    for (at_s, *_), (their_s, *_) in zip(got, expected, strict=True):
        assert abs(at_s - their_s) <= TICK_S, f"{at_s} s, theirs {their_s} s"


def test_our_scale_ups_are_those_that_the_real_planner_printed() -> None:
    assert_same(ours(), KNOWN)


def test_a_longer_delay_is_seen() -> None:
    """The comparison can fail: telemetry 15 s old puts every step after the first further apart."""
    with pytest.raises(AssertionError):
        assert_same(ours(telemetry_s=15.0), KNOWN)


@pytest.mark.timeout(400)
@pytest.mark.skipif(
    not dynamo_planner.present(),
    reason=f"ai-dynamo {dynamo_planner.VERSION} is absent; `PYTHONPATH=tests python -m support.dynamo_planner` gets it",
)
def test_the_real_planner_still_says_so(tmp_path: Path) -> None:
    theirs = dynamo_planner.scaled(
        tmp_path,
        planner={
            "mode": "agg",
            "optimization_target": "throughput",
            "max_gpu_budget": 8,
            "enable_load_scaling": True,
            "enable_throughput_scaling": False,
            "environment": "virtual",
            "backend": "mocker",
        },
        engine={
            "max_num_seqs": 64,
            "startup_time": 40,
            "enable_prefix_caching": False,
            "block_size": BLOCK_TOKENS,
            "num_gpu_blocks": BLOCKS,
        },
        load={"input-tokens": 1024, "output-tokens": 256, "request-rate": 60, "request-count": 17_400},
    )
    ups = [step for step in theirs if step[2] > step[1]]
    assert_same(ours(), ups)
    assert_same(KNOWN, ups)
