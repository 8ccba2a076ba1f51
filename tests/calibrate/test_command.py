"""`capstan profile estimate | predict | fit` as others script against them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capstan.__main__ import cli
from support import api

TP4 = str(api.POLICIES / "profiles" / "llama-3.1-70b-h100-sxm5-80gb-tp4.yaml")
CONFIG: dict[str, object] = {
    "model_type": "qwen3", "hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40,
    "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "max_position_embeddings": 40960,
}  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["profile", *arguments])


def config_file(folder: Path, **changes: object) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(CONFIG | changes), encoding="utf-8")
    return str(path)


def test_a_step_has_exactly_these_figures() -> None:
    result = run("predict", TP4, "--batch", "32", "--context", "1024", "--prompt-tokens", "512", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert list(found) == ["decode_step_s", "prefill_s", "ttft_s", "power_w", "energy_j_per_output_token"]
    assert found["ttft_s"] > found["prefill_s"] > found["decode_step_s"] > 0
    assert found["energy_j_per_output_token"] == pytest.approx(4 * found["power_w"] * found["decode_step_s"] / 32)


def test_a_saturated_engine_has_exactly_these_figures() -> None:
    flags = ("--closed-loop", "--max-num-seqs", "64", "--prompt-tokens", "200", "--output-tokens", "500", "--json")
    result = run("predict", TP4, *flags)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert list(found) == ["itl_mean_s", "output_tokens_per_s", "power_w", "energy_j_per_output_token"]
    assert found["itl_mean_s"] * found["output_tokens_per_s"] == pytest.approx(64)


def test_a_lower_clock_is_slower_and_draws_less() -> None:
    full, capped = (
        json.loads(run("predict", TP4, "--batch", "32", *flags, "--json").stdout)
        for flags in ((), ("--clock-mhz", "1410"))
    )
    assert capped["decode_step_s"] > full["decode_step_s"]
    assert capped["power_w"] < full["power_w"]


def test_without_json_it_is_a_table() -> None:
    assert "decode_step_s " in run("predict", TP4, "--batch", "8").stdout


def test_more_context_than_the_cache_holds_is_a_warning() -> None:
    result = run("predict", TP4, "--batch", "1000", "--context", "4000", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["decode_step_s"] > 0
    assert "KV cache" in result.stderr


@pytest.mark.parametrize("gpu", ["A100-40GB", "A100-80GB", "H100-SXM5-80GB", "H200", "B200", "MI300X"])
def test_an_estimate_can_be_predicted_with(tmp_path: Path, gpu: str) -> None:
    out = tmp_path / "profile.yaml"
    result = run("estimate", "--config", config_file(tmp_path), "--gpu", gpu, "--tp", "2", "-o", str(out))
    assert result.exit_code == 0, result.output
    assert "Estimated" in result.stdout
    assert json.loads(run("predict", str(out), "--json").stdout)["decode_step_s"] > 0


def test_a_measured_llm_keeps_its_level_at_another_name(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    shape = json.loads((Path(api.__file__).parents[2] / "operator/capstan/calibrate/configs.json").read_text())
    config.write_text(json.dumps(shape["meta-llama/Llama-3.1-70B-Instruct"]), encoding="utf-8")
    out = tmp_path / "p.yaml"
    run("estimate", "--config", str(config), "--gpu", "h100", "--tp", "4", "-o", str(out), "--model", "acme/tuned")
    ours, shipped = (json.loads(run("predict", path, "--json").stdout) for path in (str(out), TP4))
    assert ours == pytest.approx(shipped)


@pytest.mark.parametrize(
    ("changes", "flags", "words"),
    [
        ({}, ("--gpu", "V100", "--tp", "1"), "H100-SXM5-80GB"),
        ({}, ("--gpu", "h100", "--tp", "3"), "--tp"),
        ({}, ("--gpu", "h100", "--tp", "16"), "40 attention heads"),
        ({}, ("--gpu", "h100", "--tp", "1", "--dtype", "int4"), "bfloat16"),
        ({"num_hidden_layers": 700}, ("--gpu", "h100", "--tp", "1"), "the smallest that does is --tp 8"),
        ({"hidden_size": None}, ("--gpu", "h100", "--tp", "1"), "hidden_size"),
    ],
    ids=["gpu", "tp-three", "heads", "dtype", "too large", "no hidden size"],
)
def test_an_estimate_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, changes: dict[str, object], flags: tuple[str, ...], words: str
) -> None:
    result = run("estimate", "--config", config_file(tmp_path, **changes), *flags, "-o", str(tmp_path / "p.yaml"))
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "p.yaml").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("predict", "none.yaml"), "none.yaml"),
        (("predict", TP4, "--clock-mhz", "5000"), "--clock-mhz"),
        (("predict", TP4, "--batch", "0"), "--batch"),
        (("predict", TP4, "--batch", "nan"), "--batch"),
        (("predict", __file__), "YAML"),
        (("fit", "--data", "nowhere"), "--data"),
    ],
    ids=["no file", "clock", "batch", "not a number", "no profile", "no data"],
)
def test_bad_input_is_one_sentence(flags: tuple[str, ...], words: str) -> None:
    result = run(*flags)
    assert result.exit_code == 2
    assert words in result.stderr
