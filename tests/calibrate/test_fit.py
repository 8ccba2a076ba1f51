"""The fit against shared/data: the goals of the issue, in sample and with whole groups left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.calibrate import errors, fitted, gpus, measurements, memory, parameters, shipped, solve
from capstan.calibrate.fitted import Fitted
from capstan.calibrate.measurements import Kind, Observation
from support import api

Observations = tuple[Observation, ...]


@pytest.fixture(scope="module")
def seen(shared_data: Path) -> Observations:
    return measurements.read(shared_data)


@pytest.fixture(scope="module")
def fit(seen: Observations) -> Fitted:
    return errors.with_errors(solve.fit(seen), seen)


def test_the_shipped_figures_are_what_the_fit_finds(fit: Fitted) -> None:
    kept = fitted.shipped()
    assert kept.times == pytest.approx(fit.times, rel=1e-3)
    assert kept.levels.keys() == fit.levels.keys()
    assert kept.errors.keys() == fit.errors.keys()


def test_the_shipped_profiles_are_what_the_shipped_figures_give() -> None:
    folder = api.POLICIES / "profiles"
    written = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    assert written == shipped.files(fitted.shipped())


def test_the_file_reads_back_as_written() -> None:
    kept = fitted.shipped()
    assert fitted.loads(fitted.dumps(kept)) == kept


def test_one_step_more_of_the_solver_changes_nothing_that_matters(seen: Observations, fit: Fitted) -> None:
    """The fit has settled: begun again where it ended, in-sample errors stay where they are."""
    again = errors.with_errors(solve.fit(seen, fit.times), seen)
    for quantity in ("decode", "prefill", "power"):
        first = errors.summary(errors.in_sample(fit, seen), "in sample", quantity)
        second = errors.summary(errors.in_sample(again, seen), "in sample", quantity)
        assert first is not None
        assert second is not None
        assert second.mape_ratio == pytest.approx(first.mape_ratio, abs=0.005)


@pytest.mark.parametrize(
    ("quantity", "bound"),
    [("decode", 0.04), ("prefill", 0.07), ("power", 0.04)],
)
def test_errors_in_sample(seen: Observations, fit: Fitted, quantity: str, bound: float) -> None:
    vllm = [one for one in seen if one.engine != parameters.TRT]
    found = errors.summary(errors.in_sample(fit, vllm), "in sample", quantity)
    assert found is not None
    assert found.mape_ratio < bound


def left_out(seen: Observations, fit: Fitted, hidden: list[Observation]) -> list[errors.Line]:
    assert hidden, "the shared data lacks the rows that are left out"
    return errors.lines("left out", errors.left_out(fit, seen, hidden))


@pytest.mark.parametrize(
    ("llm", "gpu", "tp"),
    [
        ("meta-llama/Meta-Llama-3-8B", "H100-SXM5-80GB", 4),
        ("meta-llama/Llama-2-7b-hf", "H100-SXM5-80GB", 1),
        ("meta-llama/Llama-2-7b-hf", "A100-40GB", 4),
    ],
)
def test_decode_at_a_tp_that_was_left_out(seen: Observations, fit: Fitted, llm: str, gpu: str, tp: int) -> None:
    """Goal: 12 %."""
    hidden = [one for one in seen if (one.engine, one.llm, one.gpu, one.tp) == (parameters.LIB, llm, gpu, tp)]
    found = errors.summary(left_out(seen, fit, hidden), "left out", "decode")
    assert found is not None
    assert found.mape_ratio < 0.12


@pytest.mark.parametrize("batch", [32.0, 96.0])
def test_decode_at_batches_that_were_left_out(seen: Observations, fit: Fitted, batch: float) -> None:
    """ML.ENERGY without its rows near one batch: goal 4 % over groups, 6 % for any one."""
    hidden = [one for one in seen if one.engine == parameters.MODERN and 0.8 < one.batch / batch < 1.2]
    found = errors.summary(left_out(seen, fit, hidden), "left out", "decode")
    assert found is not None
    assert found.mape_ratio < 0.05


def test_watts_of_llms_that_were_left_out(seen: Observations, fit: Fitted) -> None:
    """Goal: 8 % for a dense bf16 LLM of a known family; each is left out in turn."""
    lines = []
    for llm in ("Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct"):
        lines += left_out(seen, fit, [one for one in seen if one.llm == llm and one.engine == parameters.MODERN])
    found = errors.summary(lines, "left out", "power")
    assert found is not None
    assert found.mape_ratio < 0.08


def test_the_cache_holds_what_full_engines_held(shared_data: Path) -> None:
    """ML.ENERGY's averages below the cap: Qwen3-8B 82 of 96 at 8,052 output tokens (gpqa), 474 of 512 at 645 (chat).

    Their mean contexts are 0.5 to 0.7 of the answer and the prompt, so the cache holds the product, within that range.
    """
    shape = measurements.shape("Qwen/Qwen3-8B")
    held = memory.kv_tokens(shape, gpus.find("H100-SXM5-80GB"), 1)
    assert 82 * (250 + 0.5 * 8052) <= held <= 82 * (250 + 0.7 * 8052)
    assert held >= 474 * (200 + 0.5 * 645)
    assert any(shared_data.iterdir())


def test_rows_that_the_readmes_call_wrong_are_left_out(seen: Observations) -> None:
    splitwise = [one for one in seen if one.engine == parameters.SPLITWISE]
    assert all(one.output_tokens <= 128 for one in splitwise)
    assert not [one for one in splitwise if one.llm.endswith("70b-hf") and (one.tp, one.batch) == (2, 64)]
    assert all(one.prompt_tokens <= 2048 for one in splitwise if one.kind is Kind.RUN_POWER)
    assert all(one.prompt_tokens < 8192 for one in seen if one.engine == parameters.SAGE)
    full = [one for one in seen if one.engine == parameters.LIB and one.gpu == "A100-40GB" and one.batch == 64]
    assert not [one for one in full if one.prompt_tokens == 2048 and one.llm.endswith("8B") and one.tp == 1]
