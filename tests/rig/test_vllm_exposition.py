"""The engine's `/metrics` page says what vLLM 0.33 says: names, types, labels and buckets, read back by a parser."""

from __future__ import annotations

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from rig.simulator import exposition, vllm

NOW = vllm.Now(running=3, waiting=2, kv_usage=0.25, prompt_tokens_total=1500, generation_tokens_total=420)

GAUGES = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:num_requests_waiting_by_reason",
    "vllm:engine_sleep_state",
    "vllm:kv_cache_usage_perc",
    "vllm:cache_config_info",
}
COUNTERS = {  # as the parser names families: without `_total`
    "vllm:prompt_tokens",
    "vllm:prompt_tokens_by_source",
    "vllm:prompt_tokens_cached",
    "vllm:generation_tokens",
    "vllm:request_success",
    "vllm:num_preemptions",
    "vllm:prefix_cache_queries",
    "vllm:prefix_cache_hits",
}
LATENCY: list[float] = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]
GAP: list[float] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
TTFT: list[float] = [
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
]
# Up to a model length of 32,768.
TOKENS: list[float] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000]
BUCKETS: dict[str, list[float]] = {
    "vllm:time_to_first_token_seconds": TTFT,
    "vllm:inter_token_latency_seconds": GAP,
    "vllm:request_time_per_output_token_seconds": GAP,
    "vllm:e2e_request_latency_seconds": LATENCY,
    "vllm:request_queue_time_seconds": LATENCY,
    "vllm:request_inference_time_seconds": LATENCY,
    "vllm:request_prefill_time_seconds": LATENCY,
    "vllm:request_decode_time_seconds": LATENCY,
    "vllm:request_prompt_tokens": TOKENS,
    "vllm:request_generation_tokens": TOKENS,
    "vllm:request_prefill_kv_computed_tokens": TOKENS,
    "vllm:request_max_num_generation_tokens": TOKENS,
    "vllm:request_params_max_tokens": TOKENS,
    "vllm:request_num_preemptions": TOKENS,
    "vllm:request_params_n": [1, 2, 5, 10, 20],
    "vllm:iteration_tokens_total": [2**k for k in (0, *range(3, 15))],
}
DONE = vllm.Finished(
    reason="length",
    prompt_tokens=1000,
    output_tokens=11,
    arrival_s=10.0,
    scheduled_s=10.4,
    first_s=11.0,
    finish_s=12.0,
)


def metrics(**overrides: list[float]) -> vllm.Metrics:
    return vllm.Metrics(vllm.Config("chat", 32_768, 400_000, vllm.checked_overrides(overrides)))


def scraped(page: vllm.Metrics) -> dict[str, Metric]:
    text = exposition.page(page.lines(NOW)).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def edges(family: Metric) -> list[float]:
    found = [float(s.labels["le"]) for s in family.samples if s.name.endswith("_bucket")]
    assert found[-1] == float("inf")
    return found[:-1]


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    [found] = [
        s.value
        for family in families.values()
        for s in family.samples
        if s.name == sample and labels.items() <= s.labels.items()
    ]
    return found


def test_the_page_has_exactly_the_families_of_the_fact_sheet_with_their_types() -> None:
    types = {name: family.type for name, family in scraped(metrics()).items()}
    expected = dict.fromkeys(GAUGES, "gauge") | dict.fromkeys(COUNTERS, "counter") | dict.fromkeys(BUCKETS, "histogram")
    assert types == expected


def test_every_series_but_the_cache_info_carries_the_model_and_the_engine_index() -> None:
    for name, family in scraped(metrics()).items():
        for sample in family.samples:
            assert sample.labels["engine"] == "0", name
            assert sample.labels.get("model_name") == (None if name == "vllm:cache_config_info" else "chat"), name


@pytest.mark.parametrize("name", sorted(BUCKETS))
def test_the_buckets_are_those_of_vllm(name: str) -> None:
    assert edges(scraped(metrics())[name]) == [float(edge) for edge in BUCKETS[name]]


def test_a_scrape_shows_the_engine_of_this_moment() -> None:
    families = scraped(metrics())
    assert value(families, "vllm:num_requests_running") == 3
    assert value(families, "vllm:num_requests_waiting_by_reason", reason="capacity") == 2
    assert value(families, "vllm:num_requests_waiting_by_reason", reason="deferred") == 0
    assert value(families, "vllm:kv_cache_usage_perc") == 0.25
    assert value(families, "vllm:prompt_tokens_total") == 1500
    assert value(families, "vllm:prompt_tokens_by_source_total", source="local_compute") == 1500
    assert value(families, "vllm:generation_tokens_total") == 420
    assert value(families, "vllm:cache_config_info", num_gpu_blocks="25000", block_size="16") == 1


def test_a_finished_request_is_split_into_its_phases() -> None:
    """Arrived 10.0, scheduled 10.4, first token 11.0, eleventh at 12.0: ten gaps of 0.1 s."""
    page = metrics()
    page.finish(DONE)
    families = scraped(page)
    for name, seconds in (
        ("e2e_request_latency", 2.0),
        ("request_queue_time", 0.4),
        ("request_prefill_time", 0.6),
        ("request_decode_time", 1.0),
        ("request_inference_time", 1.6),
        ("request_time_per_output_token", 0.1),
    ):
        assert value(families, f"vllm:{name}_seconds_sum") == pytest.approx(seconds), name
        assert value(families, f"vllm:{name}_seconds_count") == 1, name
    assert value(families, "vllm:request_success_total", finished_reason="length") == 1
    assert value(families, "vllm:request_success_total", finished_reason="abort") == 0
    assert value(families, "vllm:request_generation_tokens_sum") == 11


def test_a_value_on_an_edge_counts_as_within_it() -> None:
    """`le` is inclusive: a request exactly at its limit has met it."""
    page = metrics(time_to_first_token=[0.5, 2.0])
    for ttft_s in (0.5, 2.0, 2.0001):
        page.first_token(ttft_s)
    families = scraped(page)
    assert value(families, "vllm:time_to_first_token_seconds_bucket", le="0.5") == 1
    assert value(families, "vllm:time_to_first_token_seconds_bucket", le="2.0") == 2
    assert value(families, "vllm:time_to_first_token_seconds_bucket", le="+Inf") == 3


def test_custom_buckets_replace_a_whole_family_and_leave_the_others() -> None:
    families = scraped(metrics(inter_token_latency=[0.03, 0.1]))
    assert edges(families["vllm:inter_token_latency_seconds"]) == [0.03, 0.1]
    assert edges(families["vllm:request_time_per_output_token_seconds"]) == [0.03, 0.1]
    assert edges(families["vllm:time_to_first_token_seconds"]) == TTFT


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param({"ttft": [1.0]}, "unknown bucket family", id="a family that vLLM does not know"),
        pytest.param({"request_latency": []}, "give a list", id="an empty list"),
        pytest.param({"request_latency": [0.0, 1.0]}, "above zero", id="an edge at zero"),
        pytest.param({"request_latency": [float("nan")]}, "finite", id="not a number"),
        pytest.param({"request_latency": [True, 2.0]}, "give a list", id="a boolean"),
        pytest.param({"request_latency": ["1"]}, "give a list", id="a text"),
        pytest.param({"request_latency": [1.0, 1.0]}, "ascend", id="an edge twice"),
        pytest.param({"request_latency": 1.0}, "give a list", id="no list"),
    ],
)
def test_buckets_that_vllm_would_refuse_are_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vllm.checked_overrides(overrides)


def test_a_model_name_may_hold_what_the_format_must_escape() -> None:
    name = 'a"b\\c\nd'
    page = vllm.Metrics(vllm.Config(name, 1000, 16_000, {}))
    assert value(scraped(page), "vllm:num_requests_running", model_name=name) == 3
