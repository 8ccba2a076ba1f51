"""A scenario file to scenarios: seeds, fleets, rates, the words for where a trace came from, and what was shortened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capstan.api import errors
from capstan.api import scenario as files
from capstan.model.classes import Edges
from capstan.replay import classify, load
from capstan.replay.load import Loaded
from capstan.replay.options import Options
from capstan.replay.traces import TraceError
from support import builders, small
from support.small import Folder

SHIPPED = "llama-3.1-70b-h100-sxm5-80gb-tp4.yaml"


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Folder:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / SHIPPED).write_text((root / "policies" / "profiles" / SHIPPED).read_text())
    return small.folder(tmp_path)


def read(folder: Folder, **asked: Any) -> Loaded:
    options = Options(profiles=folder.path / "profiles", **asked)
    return load.read(folder.path / "scenario.yaml", options)


def test_a_trace_comes_out_as_it_went_in(folder: Folder) -> None:
    made = read(folder).scenario()
    (service,) = made.services
    np.testing.assert_array_equal(service.requests.prompt_tokens, small.requests().prompt_tokens)
    gaps_s = np.diff(small.requests().arrival_s)
    np.testing.assert_allclose(np.diff(service.requests.arrival_s), gaps_s, atol=2e-6)  # written with 6 digits
    assert made.trace == "llm/chat: trace.csv (BurstGPT trace)"
    assert made.duration_s == service.requests.arrival_s[-1]


def test_servers_resize_the_first_group_of_nodes(folder: Folder) -> None:
    folder.scenario(fleet={"nodes": [*_nodes("gpu", 2), *_nodes("spare", 1)]})
    loaded = read(folder)
    assert [node.name for node in loaded.scenario(servers=3).nodes] == ["gpu-0", "gpu-1", "gpu-2", "spare-0"]
    assert loaded.scenario(servers=3).services[0].most_gpus == 32
    assert [node.name for node in loaded.scenario().nodes] == ["gpu-0", "gpu-1", "spare-0"]


def _nodes(name: str, count: int) -> list[dict[str, object]]:
    return [{"name": name, "count": count, "gpuProduct": builders.H100, "gpus": 8}]


def test_what_was_chosen_is_told(folder: Folder) -> None:
    notes = dict(read(folder, power_scale=0.9, periods="120,60,5").scenario(rate=2.0, seed=4).notes)
    assert notes["rates"] == "2 times the trace's, seed 4"
    assert notes["periods"] == "replicas 120 s, clock 5 s (shipped: 1800 s and 5 s)"
    assert notes["power scale"] == "0.9 times the profile's watts"
    plain = dict(read(folder).scenario().notes)
    assert plain["rates"] == "the trace's own"
    assert "power scale" not in plain


def test_a_policy_aims_at_the_limits_it_is_judged_by(folder: Folder) -> None:
    folder.scenario(policy={"spec.slo.ttftMilliseconds": 900, "spec.slo.percentile": 95})
    aims = {judged: read(folder, slo=judged).scenario().services[0].policy.slo for judged in files.SloSet}
    assert aims[files.SloSet.SCENARIO].ttft_s == 0.9
    assert aims[files.SloSet.SCENARIO].percentile_ratio == 0.95
    assert (aims[files.SloSet.CHAT].ttft_s, aims[files.SloSet.CHAT].percentile_ratio) == (2.0, 0.99)
    assert (aims[files.SloSet.CLASS].ttft_s, aims[files.SloSet.CLASS].tpot_s) == (2.0, 0.1)


def test_columns_of_ones_own_are_named_by_a_flag(folder: Folder) -> None:
    path = folder.write("mine.csv", "out,when,in\n7,0.5,30\n8,1.5,40\n")
    folder.write("trace.csv", path.read_text())
    for asked in ({"trace": path}, {}):
        (service,) = read(folder, columns="time=when,prompt=in,output=out", **asked).scenario().services
        assert service.requests.prompt_tokens.tolist() == [30, 40]
        assert service.requests.output_tokens.tolist() == [7, 8]
        assert service.requests.arrival_s.tolist() == [0.0, 1.0]
    with pytest.raises(TraceError, match="found out, when, in"):
        read(folder)


def test_a_stretched_trace_says_so(folder: Folder) -> None:
    made = read(folder, scale_time=2.0).scenario()
    assert made.trace.endswith(", 2 times as long")
    np.testing.assert_allclose(
        made.services[0].requests.arrival_s, 2 * read(folder).scenario().services[0].requests.arrival_s
    )


def test_a_repeated_trace_says_so_and_one_of_ones_own_is_played_once(folder: Folder) -> None:
    folder.scenario(run={"traces.0.repeat": 3})
    assert len(read(folder).scenario().services[0].requests) == 900
    assert read(folder).scenario().trace.endswith(", played 3 times")
    assert len(read(folder, trace=folder.path / "trace.csv").scenario().services[0].requests) == 300


def test_failed_requests_are_left_out_and_counted(folder: Folder) -> None:
    folder.write("trace.csv", "Timestamp,Request tokens,Response tokens\n0,10,5\n1,10,0\n2,10,5\n")
    assert "1 left out (failed requests (no output tokens))" in read(folder).scenario().trace


def test_a_history_is_the_first_policys_and_its_last_moment_is_not_the_traces(folder: Folder) -> None:
    past = folder.write("past.csv", small.csv_of(small.requests(50, 1.0, seed=5)))
    (service,) = read(folder, history=past).scenario().services
    assert service.history is not None
    assert (len(service.history), len(service.requests)) == (50, 300)
    assert read(folder).scenario().services[0].history is None


@pytest.mark.parametrize("kind", ["Fleet", "Run"])
def test_a_document_that_is_missing_is_named(folder: Folder, kind: str) -> None:
    parts = (folder.path / "scenario.yaml").read_text().split("---\n")
    folder.write("scenario.yaml", "---\n".join(part for part in parts if f"kind: {kind}" not in part))
    with pytest.raises(errors.Invalid, match=f"holds 0 {kind} documents; write exactly one"):
        read(folder)


def test_a_known_trace_that_is_not_here_and_has_no_fallback_is_refused(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capstan.replay.traces.shared_data_at_hand", lambda: None)
    for name in ("azure-2023-code", "azure-2024-conversation"):
        folder.scenario(run={"traces.0.source": name})
        with pytest.raises(errors.Invalid, match=r"traces\[llm/chat\].source: the trace is not on this machine"):
            read(folder)


def test_digitised_plots_are_drawn_from_by_seed(folder: Folder, shared_data: Path) -> None:
    assert (shared_data / "azure-llm-2024-digitised").is_dir()
    folder.scenario(run={"traces.0.source": "azure-2024-conversation", "durationSeconds": 60})
    loaded = read(folder)
    assert loaded.chancy
    assert "drawn from the digitised plots of azure-2024-conversation" in loaded.scenario().trace


# --- classes and guesses -----------------------------------------------------------------------------


def test_guesses_are_of_the_requests_that_are_played_and_follow_the_seed(folder: Folder) -> None:
    """Default: 81 % of 600 requests or so; three sigmas are 5 points."""
    loaded = read(folder)
    (service,) = loaded.scenario(rate=2.0, seed=1).services
    true = classify.true_codes(service.requests, service.edges)
    assert abs((service.codes == true).mean() - 0.81) < 0.05
    (again,), (other,) = (loaded.scenario(rate=2.0, seed=seed).services for seed in (1, 2))
    np.testing.assert_array_equal(service.codes, again.codes)
    assert len(other.codes) == len(other.requests)


def test_a_perfect_predictor_knows_the_true_classes(folder: Folder) -> None:
    (service,) = read(folder, predictor="1").scenario().services
    np.testing.assert_array_equal(service.codes, classify.true_codes(service.requests, service.edges))


def test_terciles_are_of_the_history_where_there_is_one(folder: Folder) -> None:
    """The history's prompts are 10, 20 ... 90 and its answers 2 to 18: edges 30 and 60, 6 and 12."""
    rows = "".join(f"{i},{10 * i},{2 * i}\n" for i in range(1, 10))
    before = folder.write("before.csv", "Timestamp,Request tokens,Response tokens\n" + rows)
    of_trace, of_history = (
        read(folder, classes="terciles", history=history).scenario().services[0].edges for history in (None, before)
    )
    assert of_history == Edges((30, 60), (6, 12))
    assert of_trace == classify.terciles(small.requests()) != of_history


def test_edges_reach_the_policy_that_is_decided_by_and_are_told(folder: Folder) -> None:
    made = read(folder, classes="300/40,80", predictor="live").scenario()
    assert made.policies[0].pools.edges == Edges((300,), (40, 80))
    notes = dict(made.notes)
    assert notes["classes"] == "prompt from 300 tokens, output from 40, 80"
    assert notes["output lengths"] == "running quantiles of what has finished"


@pytest.mark.parametrize(
    ("asked", "chancy"),
    [
        ({"systems": ("capstan",)}, False),
        ({"systems": ("multi-pool",)}, True),
        ({"systems": ("multi-pool",), "predictor": "1"}, False),
        ({"systems": ("multi-pool",), "predictor": "live"}, False),
    ],
    ids=["one pool", "pools by guesses", "pools by true classes", "pools by learnt lengths"],
)
def test_another_seed_is_another_run_only_where_guesses_by_chance_matter(
    folder: Folder, asked: dict[str, object], chancy: bool
) -> None:
    assert read(folder, **asked).chancy is chancy
