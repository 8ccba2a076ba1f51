"""Both planners of NVIDIA Dynamo against hand calculations."""

from __future__ import annotations

import pytest

from capstan.model import latency
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.replay.autoscalers import defaults, dynamo_load, dynamo_sla
from capstan.replay.autoscalers.dynamo_load import Engine, Mix
from capstan.replay.autoscalers.registry import REGISTRY, VARIANTS
from support import autoscalers as fake
from support import builders

PROFILE = builders.profile()
LOAD = defaults.DynamoLoad()
MIX = Mix(1000.0, 200.0)


def test_the_shares_of_the_older_formula() -> None:
    load = Workload(10.0, 1000.0, 200.0)
    assert dynamo_sla.prefill_engines(load, 10_000.0, 0.5) == 0.5
    assert dynamo_sla.prefill_engines(load, 10_000.0, 7.0) == 1.0, "queueing never raises it: min(1, pc)"
    assert dynamo_sla.decode_engines(load, 4_000.0) == 0.5


def test_decode_throughput_is_that_of_the_largest_batch_within_the_limit() -> None:
    """step(b) = 4 + (12^4 + (0.09 b)^4)^(1/4) + 0.09 (b - 1) + 1000 b x 25 ns.

    Limit 20 ms: b = 35: 4 + 12.0142 + 3.06 + 0.875 = 19.9492 ms; 36: 4 + 12.0159 + 3.15 + 0.9 = 20.0659 ms.
    """
    assert dynamo_sla.decode_tokens_per_s(PROFILE, 1000.0, 0.020) == pytest.approx(35 / 0.0199492, rel=1e-5)
    # 10 s: memory ends it, 400,000 / 4,000 = 100 sequences: 4 + (12^4 + 9^4)^(1/4) = 12.8537, + 8.91 + 10 = 35.7637 ms
    assert dynamo_sla.decode_tokens_per_s(PROFILE, 4000.0, 10.0) == pytest.approx(100 / 0.0357637, rel=1e-5)
    # 1 ms is out of reach: a batch of one, 16.025 ms
    assert dynamo_sla.decode_tokens_per_s(PROFILE, 1000.0, 0.001) == pytest.approx(1 / 0.016025, rel=1e-6)


def test_the_older_formula_by_hand() -> None:
    """100 rps x 1000 / 200. Prompt: 2 chunks of 500: 4 + 2 + (12^4 + 45^4)^(1/4) = 45.0568 ms, and attention.

    Attention: 1000^2 / 2 pairs x 1 ns = 0.5 ms over both chunks. 2 x 51.0568 + 0.5 = 102.614 ms, so 9,745 tokens/s:
    10.26 -> 11. Decode: context 1100, 100 ms: 256 sequences (4 + (12^4 + 23.04^4)^(1/4) = 23.453, + 22.95 + 7.04 =
    57.44 ms), 4,457 tokens/s: 4.49 -> 5. A TPOT twice the expected leaves 50 ms: b = 219 (4 + 20.355 + 19.62 + 6.0225
    = 49.998 ms), 4,380 tokens/s: 4.57 -> 5; three times 33.3 ms: b = 130 (4 + 14.096 + 11.61 + 3.575 = 33.281 ms),
    3,906 tokens/s: 5.12 -> 6. A TTFT half the expected: 5.13 -> 6.
    """
    load, slo = Workload(100.0, 1000.0, 200.0), Slo(ttft_s=2.0, tpot_s=0.1)
    assert dynamo_sla.prompt_s(PROFILE, 1000.0) == pytest.approx(0.102614, rel=1e-5)
    assert dynamo_sla.replicas(PROFILE, load, slo, dynamo_sla.Corrections()) == 11 + 5
    assert dynamo_sla.replicas(PROFILE, load, slo, dynamo_sla.Corrections(decode=2.0)) == 11 + 5
    assert dynamo_sla.replicas(PROFILE, load, slo, dynamo_sla.Corrections(decode=3.0)) == 11 + 6
    assert dynamo_sla.replicas(PROFILE, load, slo, dynamo_sla.Corrections(prefill=0.5)) == 6 + 5


def test_dynamo_sla_acts_every_180_s_and_holds_without_traffic() -> None:
    system = REGISTRY["dynamo-sla"]()
    system.start(fake.service(2))
    busy = fake.FakeWindow(span_s=180.0, arrivals=180 * 50, ttft=5.0, tpot=0.02)
    quiet = fake.FakeWindow(finished=0, prompt_tokens_mean=None, output_tokens_mean=None, ttft=None, tpot=None)
    two = [fake.pod(running=100)] * 2
    assert fake.asked(system, 0.0, fake.seen(*two, window=quiet)) == 2
    assert fake.asked(system, 90.0, fake.seen(*two, window=busy)) == 2, "not before the interval is over"
    # 50 rps: 5.13 -> 6, and 50 x 200 / 4,457 = 2.24 -> 3 (TPOT is below expectation, so its limit is not tightened)
    assert fake.asked(system, 180.0, fake.seen(*two, window=busy)) == 6 + 3


@pytest.mark.parametrize(
    ("engines", "expected"),
    [
        pytest.param([(380_000, 40_000), (0, 0)], 1, id="420/400=1.05 in any engine"),
        pytest.param([(400_000, 0)], 0, id="1.0 is not above 1.0"),
        pytest.param([(200_000, 0), (230_000, 0)], -1, id="0.5 and 0.575 are below 0.6"),
        pytest.param([(200_000, 0), (240_000, 0)], 0, id="0.6 is not below"),
        pytest.param([(0, 0)], 0, id="one-engine-stays"),
    ],
)
def test_thresholds(engines: list[tuple[float, float]], expected: int) -> None:
    assert dynamo_load.easy([Engine(1, *tokens) for tokens in engines], 400_000, LOAD) == expected


def test_ttft_of_a_next_prompt_is_the_queue_and_itself_chunk_by_chunk() -> None:
    """600 queued + 1000 own = 1600 tokens = 4 chunks of 400 beside 10 sequences of 1000 tokens.

    A step: 4 + 2 + (12^4 + (0.09 x 410)^4)^(1/4) = 37.0027, + 0.09 x 9 + 10,000 x 25 ns = 1.06 ms. Attention: 400
    tokens, before them (1000 - 400) / 2 on average and half of themselves: 400 x 500 x 1 ns = 0.2 ms. 4 x 44.2627 ms.
    """
    assert dynamo_load.ttft_s(PROFILE, Engine(10, 10_000, 600), 1000.0) == pytest.approx(4 * 0.0442627, rel=1e-5)


def test_sla_mode_goes_up_only_when_every_engine_misses_a_limit() -> None:
    slo = Slo(ttft_s=1.0, tpot_s=0.1)
    swamped, calm = Engine(200, 220_000, 30_000), Engine(20, 22_000, 0)
    assert dynamo_load.sla(PROFILE, [swamped, swamped], MIX, slo, 0.8) == 1
    assert dynamo_load.sla(PROFILE, [swamped, calm], MIX, slo, 0.8) == 0
    assert dynamo_load.sla(PROFILE, [calm, calm], MIX, slo, 0.8) == -1
    assert dynamo_load.sla(PROFILE, [calm], MIX, slo, 0.8) == 0, "the last one stays"


def test_sla_mode_keeps_a_replica_whose_work_would_not_fit_or_not_keep_up() -> None:
    slo = Slo(ttft_s=5.0, tpot_s=0.5)
    big = Engine(100, 210_000, 0)
    assert dynamo_load.sla(PROFILE, [big, big], MIX, slo, 0.8) == 0, "2 x 210,000 tokens do not fit in 400,000"
    # 2 x 60 sequences: chunk 120 x 1000 / 200 -> 512 at most: a step of 6 + (12^4 + (0.09 x 632)^4)^(1/4) = 56.9,
    # + 10.7 + 3.3 + 512 x 500 x 1 ns = 77.2 ms > 0.8 x 90
    busy = Engine(60, 66_000, 0)
    assert dynamo_load.sla(PROFILE, [busy, busy], MIX, Slo(5.0, 0.090), 0.8) == 0
    assert dynamo_load.sla(PROFILE, [busy, busy], MIX, Slo(5.0, 0.100), 0.8) == -1, "77.2 < 80"


def test_the_rate_of_one_engine_stops_where_prompts_no_longer_fit_beside_the_batch() -> None:
    """B (1 + 1000 / 200) <= 512: b = 85, chunk 425: 6 + (12^4 + (0.09 x 510)^4)^(1/4) = 45.954, + 7.56 + 2.3375.

    Attention: 425 x (287.5 + 212.5) x 1 ns = 0.2125: 62.064 ms in all. 85 / (200 x 62.064 ms) = 6.848 rps; prompts:
    (512 - 85) / (1000 x 62.064 ms) = 6.880.
    """
    assert dynamo_load.engine_rps(PROFILE, MIX, Slo(2.0, 0.1)) == pytest.approx(6.848, abs=0.001)
    tight = dynamo_load.engine_rps(PROFILE, MIX, Slo(2.0, 0.03))
    assert 0 < tight < 6.8
    hopeless = dynamo_load.engine_rps(PROFILE, MIX, Slo(2.0, 0.001))
    one_s = latency.mixed_step_s(PROFILE, 1.0, 1100.0, 5.0, (1000.0 - 5.0) / 2, 1.0)
    assert hopeless == pytest.approx(1 / (200 * one_s)), "a batch of one, as the planner falls back to"


def test_dynamo_load_does_nothing_while_a_pod_starts() -> None:
    system = VARIANTS["dynamo-load-throughput"]()
    system.start(fake.service(1))
    full = fake.pod(running=250, waiting=100, held=390_000)
    assert fake.asked(system, 0.0, fake.seen(full)) == 2
    assert [fake.asked(system, t, fake.seen(full, fake.pod(ready=False))) for t in (5.0, 10.0, 40.0)] == [2, 2, 2]
    assert fake.asked(system, 45.0, fake.seen(full, full)) == 3


def test_the_throughput_loop_is_a_floor() -> None:
    """50 rps / 6.85 rps = 7.3: 8, though nobody misses a limit now."""
    system = REGISTRY["dynamo-load"]()
    system.start(fake.service(2))
    window = fake.FakeWindow(span_s=180.0, arrivals=9000)
    assert fake.asked(system, 0.0, fake.seen(*[fake.pod(running=5, held=5000)] * 2, window=window)) == 8
