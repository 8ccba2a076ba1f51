"""The global model: what physics demands of it, whatever was fitted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.api import convert, manifests, v1alpha1
from capstan.calibrate import fitted, form, gpus, manifest, memory, parameters, physics
from capstan.calibrate.estimate import Estimate, estimate
from capstan.model import latency, power, saturated
from capstan.model.profile import Profile

FIT = fitted.shipped()
CONFIGS: dict[str, dict[str, object]] = json.loads(
    resources.files("capstan.calibrate").joinpath("configs.json").read_text(encoding="utf-8")
)
H100 = "H100-SXM5-80GB"


def cases() -> Iterator[tuple[str, str, int]]:
    for name, llm in memory.published().items():
        for gpu in gpus.ALL:
            smallest = memory.smallest_tp(llm, gpu, 2048)
            assert smallest is not None
            for tp in (smallest, max(smallest, 8)):
                yield name, gpu.name, tp


CASES = sorted(set(cases()))
STARTS = {name: prior.start for name, prior in parameters.priors().items()}


def made(case: tuple[str, str, int]) -> Estimate:
    name, gpu, tp = case
    return estimate(FIT, CONFIGS[name], gpu, tp, model=name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].split('/')[-1]} on {case[2]} {case[1]}")
def test_every_published_llm_has_an_estimate_on_every_gpu(case: tuple[str, str, int]) -> None:
    """The manifest is valid, reads back as the same physics, names each source once, and says what it is."""
    found = made(case)
    document = manifest.build(found, FIT)
    spec = manifests.parse(v1alpha1.ServingProfile, document).spec
    again = convert.profile(document)
    assert latency.decode_step_s(again, 8, 4096, 1.0) == pytest.approx(
        latency.decode_step_s(found.profile, 8, 4096, 1.0), rel=1e-4
    )
    named = [parameter for source in spec.sources for parameter in source.parameters]
    assert len(named) == len(set(named))
    assert ("Unvalidated" in spec.provenance) == (not found.gpu.measured)
    assert ("Estimated" in spec.provenance) == (found.choice.measured is None)


@settings(max_examples=40)
@given(st.sampled_from(CASES), st.floats(0.25, 1.0), st.floats(0.25, 1.0), st.integers(1, 256), st.integers(0, 2048))
def test_a_higher_clock_is_faster_and_draws_more(
    case: tuple[str, str, int], one: float, other: float, batch: int, chunk: int
) -> None:
    p = made(case).profile
    low, high = sorted((one, other))
    steps = [latency.mixed_step_s(p, batch, batch * 300, chunk, 0, x) for x in (low, high)]
    assert steps[1] <= steps[0] * (1 + 1e-12)
    draws = [power.mixed_w(p, batch, batch * 300, chunk, 0, 0, x) for x in (low, high)]
    assert draws[0] <= draws[1] + 1e-9


@settings(max_examples=40)
@given(st.sampled_from(CASES), st.integers(1, 255), st.integers(1, 2000), st.integers(1, 4000))
def test_more_work_takes_longer(case: tuple[str, str, int], batch: int, context: int, tokens: int) -> None:
    p = made(case).profile
    assert latency.decode_step_s(p, batch + 1, batch * context, 1.0) >= latency.decode_step_s(
        p, batch, batch * context, 1.0
    )
    assert latency.prefill_step_s(p, tokens + 1, 1.0) >= latency.prefill_step_s(p, tokens, 1.0)


def timing(tp: int, stages: int = 1, llm: str = "meta-llama/Llama-3.1-70B-Instruct") -> Profile:
    gpu = gpus.find(H100)
    shape = memory.published()[llm]
    values = STARTS
    engine, silicon = parameters.engine(values, parameters.MODERN), parameters.silicon(values, parameters.H100_FAMILY)
    steps = form.timing(shape, gpu, form.Layout(tp, stages), silicon, engine)
    return replace(physics.profile(shape, gpu, tp, steps, physics.NO_DRAW), timing=steps)


def test_weights_stream_by_hand() -> None:
    """69.5 G weights of 2 bytes over 4 GPUs at 0.85 of 3.35 TB/s: 12.2 ms."""
    assert timing(4).timing.weights_s == pytest.approx(69.5e9 * 2 / 4 / (0.85 * 3.35e12), rel=0.001)


def test_stages_run_one_after_the_other_and_hop_between() -> None:
    """Two stages of tp 4 read all weights as one of tp 4 does, half at a time; one hop of 20 us comes on top."""
    one, two = timing(4).timing, timing(4, stages=2).timing
    assert two.weights_s == pytest.approx(one.weights_s)
    assert two.host_s - one.host_s == pytest.approx(form.NODE_LATENCY_S)
    assert two.prefill_per_token_s > one.prefill_per_token_s


def test_an_all_reduce_over_two_nodes_pays_for_the_link_between() -> None:
    inside, across = timing(8).timing, timing(16).timing
    assert across.host_s - inside.host_s > 2 * 80 * form.NODE_LATENCY_S
    link_s = 160 * 8192 * 2 / form.NODE_LINK_BYTES_PER_S  # 2 (2 - 1) / 2 = 1 time the bytes
    assert across.prefill_per_token_s > link_s


def test_a_saturated_engine_obeys_little() -> None:
    """Tokens per second x mean time between them = sequences; joules = watts over tokens."""
    p = made(("meta-llama/Llama-3.1-8B-Instruct", H100, 1)).profile
    found = saturated.steady(p, saturated.Load(64, 200, 400, 8192), 1.0, 1)
    assert found.tokens_per_s * found.itl_mean_s == pytest.approx(found.batch)
    assert found.itl_mean_s > found.decode_step_s
    assert found.j_per_output_token == pytest.approx(found.gpu_w / found.tokens_per_s)


def test_a_saturated_engine_holds_what_its_cache_holds() -> None:
    p = made(("meta-llama/Llama-3.1-70B-Instruct", H100, 2)).profile
    load = saturated.Load(256, 200, 400, 8192)
    found = saturated.steady(p, load, 1.0, 2)
    assert found.batch * saturated.context_per_sequence_tokens(load) == pytest.approx(p.kv_tokens)
