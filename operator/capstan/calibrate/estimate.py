"""A profile for (LLM, GPU, tp) from its config.json: at a measured level where there is one, else estimated.

Who calls it: `capstan profile estimate`, and `calibrate.shipped` for the profiles in policies/.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from capstan.calibrate import choose, form, gpus, memory, parameters, physics
from capstan.calibrate.choose import Choice
from capstan.calibrate.fitted import Fitted
from capstan.calibrate.geometry import Config, Geometry, read
from capstan.calibrate.gpus import Gpu
from capstan.model.profile import Profile, Timing

MIN_CONTEXT_TOKENS = 2048
"""A replica that cannot hold one sequence of this length serves nobody."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A profile and where it comes from. `dtype`: of the weights."""

    profile: Profile
    llm: Geometry
    gpu: Gpu
    choice: Choice
    dtype: str


def estimate(
    fit: Fitted, config: Config, gpu_name: str, tp: int, *, model: str = "", dtype: str | None = None
) -> Estimate:
    """Return the physics of an LLM on a GPU at a tensor-parallel degree.

    Raises:
        ValueError: The config, the GPU or the tp cannot be used, or the weights do not fit; the message says what does.
    """
    llm, gpu = read(config, dtype), gpus.find(gpu_name)
    if tp not in memory.TENSOR_PARALLELS:
        raise ValueError(f"--tp: {tp} is no power of two up to 64; use one of 1, 2, 4, 8")
    if llm.heads % tp:
        raise ValueError(
            f"--tp: {llm.heads} attention heads cannot be split over {tp} GPUs; use a smaller power of two"
        )
    _require_fit(llm, gpu, tp)
    chosen = choose.choice(fit, llm, gpu)
    draw = form.levelled_draw(parameters.draw(fit.power[_power_of(gpu)], gpu, tp), chosen.level)
    profile = physics.profile(llm, gpu, tp, _timing(fit, llm, gpu, tp, chosen), draw)
    name = model or (chosen.measured.llm if chosen.measured else str(config.get("_name_or_path") or "")) or llm.family
    kind = {1.0: "fp8", 2.0: "bfloat16"}[llm.weight_dtype_bytes]
    named = replace(
        profile,
        name=f"{slug(name)}-{slug(gpu.name)}-tp{tp}",
        models=(name,),
        fit_error_ratio=_fit_error_ratio(fit, chosen, gpu, tp),
    )
    return Estimate(named, llm, gpu, chosen, kind)


def slug(name: str) -> str:
    """Return an LLM's or a GPU's name as an object's: without owner and tuning, lower case."""
    short = name.rsplit("/", 1)[-1].lower().removesuffix("-instruct").removesuffix("-hf").removesuffix("-it")
    return "".join(char if char.isalnum() or char in ".-" else "-" for char in short).strip("-.") or "llm"


def _power_of(gpu: Gpu) -> str:
    return gpu.borrows


def _require_fit(llm: Geometry, gpu: Gpu, tp: int) -> None:
    """Refuse weights that leave no room for one sequence."""
    if memory.kv_tokens(llm, gpu, tp) >= MIN_CONTEXT_TOKENS:
        return
    weights_gb = llm.held_count * llm.weight_dtype_bytes / 1e9
    smallest = memory.smallest_tp(llm, gpu, MIN_CONTEXT_TOKENS)
    advice = f"the smallest that does is --tp {smallest}" if smallest else "no tp up to 64 does"
    raise ValueError(f"--tp: {weights_gb:.0f} GB of weights and a KV cache do not fit on {tp} x {gpu.name}; {advice}")


def _timing(fit: Fitted, llm: Geometry, gpu: Gpu, tp: int, chosen: Choice) -> Timing:
    """Return step times at the chosen level, prefill from the engine that measured it."""
    decode = form.levelled(physics.step_times(fit.times, llm, gpu, tp, chosen.engine), chosen.level)
    if chosen.prefill_engine == chosen.engine:
        return decode
    first = form.levelled(physics.step_times(fit.times, llm, gpu, tp, chosen.prefill_engine), chosen.prefill_level)
    return replace(
        decode,
        prefill_base_s=max(first.prefill_base_s + first.host_s - decode.host_s, 0.0),
        prefill_per_token_s=first.prefill_per_token_s,
        prefill_per_token_long_s=first.prefill_per_token_long_s,
        prefill_min_s=first.prefill_min_s,
        attention_per_token2_s=first.attention_per_token2_s,
    )


def _fit_error_ratio(fit: Fitted, chosen: Choice, gpu: Gpu, tp: int) -> float | None:
    """Return the mean error of the rows behind a measured level (all its tps where this one was not measured)."""
    key = chosen.measured
    if key is None:
        return None
    own = {k: e for k, e in fit.errors.items() if k[:3] == (key.engine, key.llm, gpu.name)}
    here = {k: e for k, e in own.items() if k[3] == tp} or own
    rows = sum(error.rows for error in here.values())
    return sum(error.mape_ratio * error.rows for error in here.values()) / rows
