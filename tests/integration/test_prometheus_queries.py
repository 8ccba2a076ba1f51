"""What the queries of a cycle mean to a real Prometheus: promtool evaluates them on series of our own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from capstan.adapters.prometheus import vllm
from rig import binaries

STEP_S = 5
MINUTES = 5
POD = {"namespace": "llm", "pod": "chat-1", "engine": "0", "model_name": "chat"}
QUERIES = vllm.Queries(window_s=60)

Labels = dict[str, str]
Wanted = Mapping[tuple[str, ...], float]


@pytest.fixture(scope="session")
def promtool() -> Path:
    try:
        return binaries.find(("promtool",), may_build=False)["promtool"].path
    except binaries.NotAvailable as problem:
        pytest.skip(f"no promtool: {problem}")


class Scrapes:
    """Series of `MINUTES` minutes with a sample every `STEP_S`, in promtool's notation."""

    def __init__(self) -> None:
        self.series: list[dict[str, str]] = []

    def add(self, name: str, labels: Labels, values: str) -> None:
        """Add one; `values` such as `0+10x60`: from 0, 10 more each time, 60 times."""
        inside = ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
        self.series.append({"series": f"{name}{{{inside}}}", "values": values})

    def engine(self, labels: Labels, *, first: str, waiting: str = "0x60", running: str = "4x60") -> None:
        """Add what `Queries.engines` reads for an engine whose requests have 100 tokens in and 20 out."""
        self.add("vllm:time_to_first_token_seconds_count", labels, first)
        self.add("vllm:num_requests_waiting", labels, waiting)
        self.add("vllm:num_requests_running", labels, running)


def found(
    promtool: Path, folder: Path, scrapes: Scrapes, query: str, labels: tuple[str, ...], wanted: Wanted
) -> subprocess.CompletedProcess[str]:
    """Have promtool compare the answer of `query` at the end with `wanted`, by the values of `labels`."""
    samples = []
    for values, number in wanted.items():
        pairs = ",".join(f'{k}="{v}"' for k, v in zip(labels, values, strict=True) if v)
        samples.append({"labels": f"{{{pairs}}}", "value": number})
    test = {
        "interval": f"{STEP_S}s",
        "input_series": scrapes.series,
        "promql_expr_test": [{"expr": query, "eval_time": f"{MINUTES}m", "exp_samples": samples}],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"fuzzy_compare": True, "evaluation_interval": "5s", "tests": [test]}))
    return subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)


def only(what: tuple[str, ...], query: str) -> str:
    """Keep the rows that a test is about."""
    kept = " or ".join(f'label_replace(vector(1), "what", "{word}", "", "")' for word in what)
    return f"({query}) and on (what) ({kept})"


def engines(promtool: Path, folder: Path, scrapes: Scrapes, wanted: Wanted, queries: vllm.Queries = QUERIES) -> None:
    """Expect these values of (pod, what) in namespace llm, of the rows named there."""
    whats = tuple(sorted({key[-1] for key in wanted}))
    by = {("llm", *key): value for key, value in wanted.items()}
    result = found(promtool, folder, scrapes, only(whats, queries.engines()), ("namespace", "pod", "what"), by)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_steady_load_is_its_first_tokens(promtool: Path, tmp_path: Path) -> None:
    scrapes = Scrapes()
    scrapes.engine(POD, first="0+10x60", waiting="3x60")  # 2 a second
    scrapes.add("vllm:request_generation_tokens_count", POD, "0+10x60")
    scrapes.add("vllm:request_prompt_tokens_sum", POD, "0+1000x60")
    scrapes.add("vllm:request_generation_tokens_sum", POD, "0+200x60")
    scrapes.add("vllm:generation_tokens_total", POD, "0+200x60")
    wanted: Wanted = {
        ("chat-1", "arrived"): 120, ("chat-1", "finished"): 120, ("chat-1", "prompt"): 12_000,
        ("chat-1", "output"): 2_400, ("chat-1", "tokens_per_s"): 40, ("chat-1", "running"): 4,
        ("chat-1", "waiting"): 3, ("chat-1", "age_s"): 0,
    }  # fmt: skip
    engines(promtool, tmp_path, scrapes, wanted)


def test_a_load_that_only_queues_has_arrived_all_the_same(promtool: Path, tmp_path: Path) -> None:
    """The engine is full: first tokens go on at 2 a second while 3 more a second queue up."""
    scrapes = Scrapes()
    scrapes.engine(POD, first="0+10x60", waiting="0x30 15+15x29")
    engines(promtool, tmp_path, scrapes, {("chat-1", "arrived"): 120 + 180})


def test_a_queue_that_is_worked_off_is_not_counted_again(promtool: Path, tmp_path: Path) -> None:
    """5 first tokens a second, 3 of them from the queue: 2 a second arrive."""
    scrapes = Scrapes()
    scrapes.engine(POD, first="0+25x60", waiting="900-15x60")
    engines(promtool, tmp_path, scrapes, {("chat-1", "arrived"): 120})


def test_an_engine_that_restarts_does_not_count_backwards(promtool: Path, tmp_path: Path) -> None:
    scrapes = Scrapes()
    scrapes.engine(POD, first="0+10x54 10+10x5")  # the counter begins anew half a minute ago
    engines(promtool, tmp_path, scrapes, {("chat-1", "arrived"): 120})


def test_the_same_engine_scraped_twice_counts_once_and_two_engines_count_twice(promtool: Path, tmp_path: Path) -> None:
    scrapes = Scrapes()
    for replica in ("a", "b"):
        scrapes.engine({**POD, "prometheus_replica": replica}, first="0+10x60")
        scrapes.engine({**POD, "pod": "chat-2", "prometheus_replica": replica}, first="0+10x60")
    scrapes.engine({**POD, "pod": "chat-2", "engine": "1"}, first="0+10x60")
    wanted: Wanted = {
        ("chat-1", "arrived"): 120, ("chat-2", "arrived"): 240, ("chat-1", "running"): 4, ("chat-2", "running"): 8,
    }  # fmt: skip
    engines(promtool, tmp_path, scrapes, wanted)


def test_an_engine_that_is_no_longer_scraped_grows_old(promtool: Path, tmp_path: Path) -> None:
    scrapes = Scrapes()
    scrapes.engine(POD, first="0+10x60", running="4x54")  # the last sample is 30 s old
    engines(promtool, tmp_path, scrapes, {("chat-1", "age_s"): 30, ("chat-1", "running"): 4})


def test_a_matcher_keeps_other_clusters_out(promtool: Path, tmp_path: Path) -> None:
    scrapes = Scrapes()
    for cluster in ("ours", "theirs"):
        scrapes.engine({**POD, "cluster": cluster, "engine": cluster}, first="0+10x60")
    ours = vllm.Queries(60, {"cluster": "ours"})
    engines(promtool, tmp_path, scrapes, {("chat-1", "arrived"): 120, ("chat-1", "running"): 4}, ours)


def test_every_pod_has_its_newest_tpot_name_and_no_edge_of_another(promtool: Path, tmp_path: Path) -> None:
    """Version 0.33 has both the per-request and the per-token family, with other edges; 0.10 only an old name."""
    scrapes = Scrapes()
    for edge, rate in (("0.05", 5), ("0.1", 10), ("+Inf", 10)):
        scrapes.add("vllm:request_time_per_output_token_seconds_bucket", {**POD, "le": edge}, f"0+{rate}x60")
    for edge in ("0.075", "+Inf"):
        scrapes.add("vllm:inter_token_latency_seconds_bucket", {**POD, "le": edge}, "0+200x60")
    old = {**POD, "pod": "chat-old"}
    for edge in ("0.01", "0.05", "+Inf"):
        rate = 0 if edge == "0.01" else 200
        scrapes.add("vllm:time_per_output_token_seconds_bucket", {**old, "le": edge}, f"0+{rate}x60")
    wanted: Wanted = {
        ("llm", "chat-1", "0.05"): 60, ("llm", "chat-1", "0.1"): 120, ("llm", "chat-1", "+Inf"): 120,
        ("llm", "chat-old", "0.05"): 2400, ("llm", "chat-old", "+Inf"): 2400,
    }  # fmt: skip
    result = found(promtool, tmp_path, scrapes, QUERIES.tpot(), ("namespace", "pod", "le"), wanted)
    assert result.returncode == 0, result.stdout + result.stderr


def test_ttft_buckets_are_counts_of_the_window(promtool: Path, tmp_path: Path) -> None:
    scrapes = Scrapes()
    for edge, rate in (("0.1", 0), ("0.5", 5), ("+Inf", 10)):
        scrapes.add("vllm:time_to_first_token_seconds_bucket", {**POD, "le": edge}, f"0+{rate}x60")
    wanted: Wanted = {("llm", "chat-1", "0.5"): 60, ("llm", "chat-1", "+Inf"): 120}
    result = found(promtool, tmp_path, scrapes, QUERIES.ttft(), ("namespace", "pod", "le"), wanted)
    assert result.returncode == 0, result.stdout + result.stderr


def test_both_windows_are_asked_for_at_once(promtool: Path, tmp_path: Path) -> None:
    """2 requests a second, all fast but in the first minute: 120 in the last minute, 600 in five, 120 of them slow."""
    scrapes = Scrapes()
    for edge, values in (("0.5", "0x12 10+10x47"), ("+Inf", "0+10x60")):
        scrapes.add("vllm:time_to_first_token_seconds_bucket", {**POD, "le": edge}, values)
        scrapes.add("vllm:time_per_output_token_seconds_bucket", {**POD, "le": edge}, values)
    wanted: Wanted = {
        ("llm", "chat-1", "0.5", ""): 120, ("llm", "chat-1", "+Inf", ""): 120,
        ("llm", "chat-1", "0.5", vllm.LATELY): 480, ("llm", "chat-1", "+Inf", vllm.LATELY): 600,
    }  # fmt: skip
    for buckets in (QUERIES.ttft, QUERIES.tpot):
        query = QUERIES.and_lately(buckets)
        result = found(promtool, tmp_path, scrapes, query, ("namespace", "pod", "le", "what"), wanted)
        assert result.returncode == 0, result.stdout + result.stderr


def test_lengths_are_those_of_five_minutes_with_their_empty_buckets_and_the_sum(promtool: Path, tmp_path: Path) -> None:
    """2 requests a second of 350 tokens: 600 of them, 210,000 tokens, none of at most 200."""
    scrapes = Scrapes()
    for edge, rate in (("200", 0), ("500", 10), ("+Inf", 10)):
        scrapes.add("vllm:request_prompt_tokens_bucket", {**POD, "le": edge}, f"0+{rate}x60")
    scrapes.add("vllm:request_prompt_tokens_sum", POD, "0+3500x60")
    wanted: Wanted = {
        ("llm", "chat-1", "200", ""): 0, ("llm", "chat-1", "500", ""): 600, ("llm", "chat-1", "+Inf", ""): 600,
        ("llm", "chat-1", "", "sum"): 210_000,
    }  # fmt: skip
    labels = ("namespace", "pod", "le", "what")
    result = found(promtool, tmp_path, scrapes, QUERIES.lengths(vllm.PROMPTS), labels, wanted)
    assert result.returncode == 0, result.stdout + result.stderr


def test_lengths_of_an_engine_that_restarts_are_not_negative(promtool: Path, tmp_path: Path) -> None:
    """The counters begin anew half a minute ago; what was counted before stays counted."""
    scrapes = Scrapes()
    scrapes.add("vllm:request_prompt_tokens_bucket", {**POD, "le": "+Inf"}, "0+10x54 10+10x5")
    scrapes.add("vllm:request_prompt_tokens_sum", POD, "0+3500x54 3500+3500x5")
    wanted: Wanted = {("llm", "chat-1", "+Inf", ""): 600, ("llm", "chat-1", "", "sum"): 210_000}
    labels = ("namespace", "pod", "le", "what")
    result = found(promtool, tmp_path, scrapes, QUERIES.lengths(vllm.PROMPTS), labels, wanted)
    assert result.returncode == 0, result.stdout + result.stderr


def test_watts_are_summed_over_boards_and_nonsense_is_no_board(promtool: Path, tmp_path: Path) -> None:
    """Four boards in two label styles, one of them scraped twice; a fifth does not support the field."""
    scrapes = Scrapes()
    name = "DCGM_FI_DEV_POWER_USAGE"
    exporter = {"namespace": "monitoring", "pod": "dcgm-x", "exported_namespace": "llm", "exported_pod": "chat-1"}
    scrapes.add(name, {**exporter, "gpu": "0", "UUID": "a", "Hostname": "n"}, "400x60")
    scrapes.add(name, {**exporter, "gpu": "0", "UUID": "a", "Hostname": "n", "replica": "b"}, "400x60")
    scrapes.add(name, {**exporter, "gpu": "1", "UUID": "b", "hostname": "n"}, "300x60")
    scrapes.add(name, {**exporter, "gpu": "2", "UUID": "c", "hostname": "n"}, "9223372036854775794x60")
    scrapes.add(name, {"namespace": "llm", "pod": "chat-2", "gpu": "3", "UUID": "d"}, "250x54")
    labels = ("namespace", "pod", "exported_namespace", "exported_pod", "what")
    one, two = ("monitoring", "dcgm-x", "llm", "chat-1"), ("llm", "chat-2", "", "")
    wanted: Wanted = {
        (*one, "watts"): 700, (*one, "gpus"): 2, (*one, "age_s"): 0,
        (*two, "watts"): 250, (*two, "gpus"): 1, (*two, "age_s"): 30,
    }  # fmt: skip
    result = found(promtool, tmp_path, scrapes, QUERIES.gpus(), labels, wanted)
    assert result.returncode == 0, result.stdout + result.stderr
