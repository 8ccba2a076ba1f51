"""The shipped ServingProfiles: they load, they fit in memory, and they agree with the measurements they come from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from capstan.api import convert, manifests, v1alpha1
from capstan.api.servingprofile import ServingProfileSpec
from capstan.model import latency, power
from capstan.model.profile import Profile
from support import api

FILES = sorted((api.POLICIES / "profiles").glob("*.yaml"))
SHIPPED = [pytest.param(path, id=path.stem) for path in FILES]

TP4, TP8, SMALL = (
    "llama-3.1-70b-h100-sxm5-80gb-tp4",
    "llama-3.1-70b-h100-sxm5-80gb-tp8",
    "llama-3.1-8b-h100-sxm5-80gb-tp1",
)
HBM_BYTES = {  # nvidia-smi's total
    "NVIDIA-H100-80GB-HBM3": 80 * 2**30,
    "NVIDIA-A100-SXM4-80GB": 80 * 2**30,
    "NVIDIA-A100-SXM4-40GB": 40 * 2**30,
}
ENGINE_RATIO = 0.9  # vLLM's --gpu-memory-utilization

# ML.ENERGY gives no prompt lengths; mean over median step at the profile's prefill slope implies about this many.
PROMPT_TOKENS = 180.0
# Above this many sequences about every second step carries a prefill, so a median step is no decode step.
PURE_DECODE = 200.0
# Prompt tokens per workload, as APEX+'s own description has them.
APEX_PROMPTS = {"lmsys": 74.3, "creation": 320.0, "summarization": 2755.0}


def shipped(name: str) -> Profile:
    return convert.profile(api.sample(f"profiles/{name}"))


def spec_of(path: Path) -> ServingProfileSpec:
    return manifests.parse(v1alpha1.ServingProfile, yaml.safe_load(path.read_text(encoding="utf-8"))).spec


@pytest.mark.parametrize("path", SHIPPED)
def test_a_shipped_profile_is_named_as_its_file_and_covers_what_it_says(path: Path) -> None:
    profile = convert.profile(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert profile.name == path.stem
    assert path.stem.endswith(f"tp{profile.tp}")
    assert all(profile.covers(llm, profile.gpu_products[0], profile.tp) for llm in profile.models)
    assert profile.clocks.assumed, "nobody has published a sweep of locked clocks"


@pytest.mark.parametrize("path", SHIPPED)
def test_weights_and_context_fit_in_the_memory_of_a_gpu(path: Path) -> None:
    profile = convert.profile(yaml.safe_load(path.read_text(encoding="utf-8")))
    used = profile.work.weight_bytes + profile.kv_tokens * profile.work.kv_bytes_per_token
    assert used < HBM_BYTES[profile.gpu_products[0]] * ENGINE_RATIO


@pytest.mark.parametrize("path", SHIPPED)
def test_every_parameter_names_its_source_once(path: Path) -> None:
    spec = spec_of(path)
    sections = {name: getattr(spec, name) for name in ("clocks", "timing", "draw", "work")}
    nested = {f"{name}.{field.alias}" for name, part in sections.items() for field in type(part).model_fields.values()}
    named = [parameter for source in spec.sources for parameter in source.parameters]
    assert sorted(named) == sorted(nested | {"kvTokens", "maxNumSeqs", "chunkTokens", "startupSeconds"})


@pytest.mark.parametrize("path", SHIPPED)
def test_time_and_power_follow_the_clock(path: Path) -> None:
    profile = convert.profile(yaml.safe_load(path.read_text(encoding="utf-8")))
    ratios = [profile.clocks.ratio(mhz) for mhz in (600.0, 1000.0, 1300.0, profile.clocks.max_mhz)]
    steps = [latency.decode_step_s(profile, 32, 32 * 500, x) for x in ratios]
    assert steps == sorted(steps, reverse=True)
    draws = [power.step_w(profile, 32, 32 * 500, step, x) for step, x in zip(steps, ratios, strict=True)]
    assert draws == sorted(draws)
    assert profile.draw.loaded_idle_w < draws[0] < draws[-1] < profile.draw.limit_w


def measured_steady_state(data: Path, profile: Profile) -> Iterator[dict[str, float]]:
    """Yield ML.ENERGY's chat rows of a profile's LLM: batch, context, step times in seconds, watts of one GPU."""
    with (data / "ml-energy" / "h100_dense_llm.train.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["model_id"] not in profile.models or row["task"] != "lm-arena-chat":
                continue
            batch, output = float(row["avg_batch_size"]), float(row["avg_output_len"])
            tokens_per_s = float(row["output_throughput_tokens_per_sec"])
            mean_s = batch / tokens_per_s
            yield {
                "batch": batch,
                "context": batch * (PROMPT_TOKENS + output / 2),
                "median_s": float(row["median_itl_ms"]) / 1e3,
                "mean_s": mean_s,
                "tokens": batch + tokens_per_s / output * PROMPT_TOKENS * mean_s,
                "gpu_w": float(row["avg_power_watts"]) / int(row["tensor_parallel"]),  # the file sums the GPUs
            }


def error_of(pairs: list[tuple[float, float]]) -> float:
    """Return the mean absolute relative error of (modelled, measured) pairs."""
    assert len(pairs) >= 4, "the shared data lacks the rows that the profile was fitted to"
    return sum(abs(modelled / measured - 1) for modelled, measured in pairs) / len(pairs)


@pytest.mark.parametrize("name", [TP4, SMALL])
def test_decode_steps_agree_with_the_measurements(shared_data: Path, name: str) -> None:
    profile = shipped(name)
    rows = [row for row in measured_steady_state(shared_data, profile) if row["batch"] < PURE_DECODE]
    pairs = [(latency.decode_step_s(profile, row["batch"], row["context"], 1.0), row["median_s"]) for row in rows]
    assert error_of(pairs) < 0.05


@pytest.mark.parametrize("name", [TP4, SMALL])
def test_watts_agree_with_the_measurements(shared_data: Path, name: str) -> None:
    profile = shipped(name)
    pairs = [
        (power.step_w(profile, row["tokens"], row["context"], row["mean_s"], 1.0), row["gpu_w"])
        for row in measured_steady_state(shared_data, profile)
    ]
    assert error_of(pairs) < 0.05


@pytest.mark.parametrize("name", [TP4, SMALL])
def test_prefill_slows_decoding_as_much_as_measured(shared_data: Path, name: str) -> None:
    """A check the fit of TP4 did not see: mean step = decode step + the prefill of the prompts that arrive in it."""
    profile = shipped(name)
    pairs = []
    for row in measured_steady_state(shared_data, profile):
        if row["batch"] < PURE_DECODE:
            prompt_tokens = row["tokens"] - row["batch"]
            step_s = latency.mixed_step_s(profile, row["batch"], row["context"], prompt_tokens, 0, 1.0)
            pairs.append((step_s, row["mean_s"]))
    assert error_of(pairs) < 0.06


def runs_of(data: Path, tp: int) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Yield APEX+'s runs of a degree: workload, requests/s of a replica, figures in seconds and tokens."""
    with (data / "apex-plus" / "vllm_llama31_70b_h100.train.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["tensor_parallel"]) != tp:
                continue
            prompt = APEX_PROMPTS[row["workload"]]
            requests = float(row["prompt_tokens_sum"]) / prompt
            rate_rps = float(row["trace_rate_rps"]) / int(row["data_parallel"])
            running = float(row["sum_request_latency_s"]) / (requests / rate_rps)
            figures = {
                "prompt": prompt,
                "batch": running + 1,  # what a decoding request sees: the others in steady state, and itself
                "context": (running + 1) * (prompt + float(row["output_tokens_sum"]) / requests / 2),
                "ttft_s": float(row["mean_ttft_s"]),
                "tpot_s": float(row["mean_tpot_s"]),
            }
            yield row["workload"], rate_rps, figures


def lone_ttft_s(profile: Profile, prompt_tokens: float) -> float:
    """Return TTFT on an idle engine that takes the prompt in one pass."""
    return profile.timing.queue_host_s + latency.prefill_step_s(profile, prompt_tokens, 1.0)


@pytest.mark.parametrize("name", [TP4, TP8])
def test_time_to_first_token_agrees_at_light_load(shared_data: Path, name: str) -> None:
    profile = shipped(name)
    light_rps = 0.13 if profile.tp == 4 else 1.0  # at 0.25 requests/s a replica of four already queues long prompts
    runs = [f for _, rate_rps, f in runs_of(shared_data, profile.tp) if rate_rps < light_rps]
    assert error_of([(lone_ttft_s(profile, f["prompt"]), f["ttft_s"]) for f in runs]) < 0.05


def test_eight_gpus_are_as_much_faster_than_four_as_measured(shared_data: Path) -> None:
    """APEX+ ran an older engine (20 ms a token where the shipped level needs 17), but the same one at both degrees."""

    def mean(tp: int, of: Callable[[dict[str, float]], float]) -> float:
        found = [of(f) for workload, _, f in runs_of(shared_data, tp) if workload == "lmsys"]
        return sum(found) / len(found)

    measured = mean(8, lambda f: f["tpot_s"]) / mean(4, lambda f: f["tpot_s"])
    four, eight = shipped(TP4), shipped(TP8)
    modelled = mean(8, lambda f: latency.decode_step_s(eight, f["batch"], f["context"], 1.0)) / mean(
        4, lambda f: latency.decode_step_s(four, f["batch"], f["context"], 1.0)
    )
    assert modelled == pytest.approx(measured, rel=0.08)
