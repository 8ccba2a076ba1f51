"""Where requests come from, what is known to have come before them, and what happens to them in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capstan.api import errors
from capstan.api import scenario as files
from capstan.replay import events, load, synth
from capstan.replay.load import Loaded
from capstan.replay.options import Options
from capstan.replay.runs import Mark, Requests
from capstan.replay.scenario import NodeLoss
from support import small
from support.small import Folder

SHIPPED = "llama-3.1-70b-h100-sxm5-80gb-tp4.yaml"
SYNTHETIC = files.History.SYNTHETIC
STEADY = {"tokensPerSecond": 4000, "seconds": 600}


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Folder:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / SHIPPED).write_text((root / "policies" / "profiles" / SHIPPED).read_text())
    return small.folder(tmp_path)


def read(folder: Folder, **asked: Any) -> Loaded:
    options = Options(profiles=folder.path / "profiles", **asked)
    return load.read(folder.path / "scenario.yaml", options)


def both(loaded: Loaded, *, seed: int = 1, rate: float = 1.0) -> tuple[Requests, Requests | None]:
    """The requests and what came before them."""
    (service,) = loaded.scenario(seed=seed, rate=rate).services
    return service.requests, service.history


# --- a steady load -------------------------------------------------------------------------------------


def test_a_steady_load_takes_lengths_from_the_source_and_says_so(folder: Folder) -> None:
    folder.scenario(run={"traces.0.steady": STEADY})
    loaded = read(folder)
    requests, history = both(loaded)
    assert set(requests.prompt_tokens.tolist()) <= set(small.requests().prompt_tokens.tolist())
    assert "lengths only: Poisson at 4,000 tokens/s" in loaded.scenario().trace
    assert history is None
    assert loaded.chancy
    assert len(both(loaded, seed=2)[0]) != len(requests)


@pytest.mark.parametrize("other", [{"repeat": 2}, {"rateRatio": "0.5"}])
def test_a_steady_load_says_its_own_rate(folder: Folder, other: dict[str, object]) -> None:
    folder.scenario(run={"traces.0.steady": STEADY, **{f"traces.0.{name}": value for name, value in other.items()}})
    with pytest.raises(errors.Invalid, match="steady: says the rate itself"):
        read(folder)


# --- statistics ----------------------------------------------------------------------------------------


def test_statistics_are_a_source_of_their_own(folder: Folder) -> None:
    folder.scenario(run={"traces.0.source": "synthetic:code"})
    requests, _ = both(read(folder))
    assert len(requests) == pytest.approx(5100, abs=5 * 5100**0.5)
    assert "synthetic: drawn from the published statistics of the code trace of 2023" in read(folder).scenario().trace


def test_statistics_that_nobody_made_are_refused_with_those_that_there_are(folder: Folder) -> None:
    folder.scenario(run={"traces.0.source": "synthetic:weak"})
    with pytest.raises(errors.Invalid, match=r"source: weak are no statistics; write synthetic: and one of conv, code"):
        read(folder)


def test_a_short_run_draws_no_more_than_it_needs_and_the_same(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of half an hour's 9,655 requests the first minute's 191 or so, drawn 500 at a time."""
    monkeypatch.setattr(synth, "CHUNK_REQUESTS", 500)
    folder.scenario(run={"traces.0.source": "synthetic:conv"})
    whole, _ = both(read(folder))
    folder.scenario(run={"traces.0.source": "synthetic:conv", "durationSeconds": 60})
    loaded = read(folder)
    short, _ = both(loaded)
    count = len(short)
    np.testing.assert_array_equal(short.arrival_s, whole.arrival_s[:count])
    np.testing.assert_array_equal(short.output_tokens, whole.output_tokens[:count])
    assert len(loaded.demands[0].requests(1, end_s=60.0)) == 500


# --- what came before ----------------------------------------------------------------------------------


def test_a_drawn_history_is_another_draw_of_the_same_statistics(folder: Folder) -> None:
    """As long as the trace, a day's level of some 6 % up or down, and not one arrival in common."""
    folder.scenario(run={"traces.0.source": "synthetic:conv", "history": "synthetic"})
    loaded = read(folder)
    requests, history = both(loaded)
    assert history is not None
    assert len(history) == pytest.approx(len(requests), rel=0.3)
    assert not set(history.arrival_s.tolist()) & set(requests.arrival_s.tolist())
    assert loaded.scenario().trace.endswith("with a history drawn by another seed")
    again, other = both(loaded)[1], both(loaded, seed=2)[1]
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(again.arrival_s, history.arrival_s)
    assert len(other) != len(history)


def test_the_history_of_a_steady_load_is_as_steady(folder: Folder) -> None:
    folder.scenario(run={"traces.0.steady": STEADY})
    requests, history = both(read(folder, history=SYNTHETIC))
    assert history is not None
    assert len(history) == pytest.approx(len(requests), abs=5 * len(requests) ** 0.5)
    assert history.arrival_s[-1] <= 600


def test_a_traces_fallback_has_the_statistics_of_its_past(folder: Folder) -> None:
    folder.scenario(run={"traces.0.fallback": {"synthetic": "conv"}})
    requests, history = both(read(folder, history=SYNTHETIC))
    assert len(requests) == 300, "the trace itself is at hand"
    assert history is not None
    assert history.arrival_s[-1] > 1000


def test_a_trace_of_which_nothing_is_published_has_no_drawn_past(folder: Folder) -> None:
    with pytest.raises(errors.Invalid, match="--history: nothing is published to draw the past of llm/chat from"):
        read(folder, history=SYNTHETIC)


def test_a_history_is_scaled_with_the_rates_of_its_trace(folder: Folder) -> None:
    past = folder.write("past.csv", small.csv_of(small.requests(50, 1.0, seed=5)))
    _, history = both(read(folder, history=past), rate=3.0)
    assert history is not None
    assert len(history) == 150


# --- events --------------------------------------------------------------------------------------------

BURST = {"atSeconds": 30, "kind": "RateBurst", "policy": "llm/chat", "factor": "4", "forSeconds": 20}
LOST = {"atSeconds": 60, "kind": "NodeLost", "node": "gpu-1", "forSeconds": 600}


def test_a_burst_is_in_the_requests_and_among_the_shocks(folder: Folder) -> None:
    folder.scenario(run={"events": [BURST]})
    loaded = read(folder)
    made = loaded.scenario()
    (service,) = made.services
    assert len(service.requests) > 300 + 100, "3 more of some 60 requests between 40 and 50 s, and the flanks"
    assert made.shocks_s == (30.0,)
    (burst,) = made.bursts
    assert (burst.t_s, burst.end_s, burst.policy, burst.factor_ratio) == (30.0, 60.0, "llm/chat", 4.0)
    assert loaded.chancy


def test_losses_come_in_order_of_time_and_last_as_long_as_they_say(folder: Folder) -> None:
    folder.scenario(run={"events": [{**LOST, "atSeconds": 70}, {"atSeconds": 20, "kind": "NodeLost", "node": "gpu-0"}]})
    made = read(folder).scenario()
    assert made.losses == (NodeLoss(20.0, "gpu-0"), NodeLoss(70.0, "gpu-1", 670.0))
    assert made.shocks_s == (20.0, 70.0)


def test_the_report_has_the_shocks_with_the_recovery_of_each(folder: Folder) -> None:
    folder.scenario(run={"events": [BURST, LOST], "durationSeconds": 80})
    found = folder.replay("--profiles", folder.path / "profiles", "--systems", "fixed")
    assert "after 30 s: back in, s / debt" in found.output
    system = json.loads((folder.out / "report.json").read_text())["systems"]["fixed"]
    assert [mark["text"] for mark in system["marks"]] == ["gpu-1 is lost", "llm/chat: 4 times the requests"]
    (service,) = system["services"]
    assert [each["t_s"] for each in service["recoveries"]] == [30.0, 60.0]
    assert all({"recovered_after_s", "debt_requests", "late_s", "t_s"} == set(each) for each in service["recoveries"])


@pytest.mark.parametrize(
    ("event", "says"),
    [
        pytest.param({**LOST, "node": "gpu-2"}, r"events\[0\].node: there is no node gpu-2", id="no such node"),
        pytest.param({**BURST, "policy": "llm/other"}, "a RateBurst names a policy that has no trace", id="no trace"),
        pytest.param({**BURST, "factor": "1"}, r"events\[0\].factor: is the multiple", id="no burst"),
        pytest.param({**BURST, "factor": "200"}, r"events\[0\].factor: is the multiple", id="a wrong unit"),
        pytest.param({**BURST, "forSeconds": 5}, r"events\[0\].forSeconds: a burst lasts", id="over before its top"),
        pytest.param({**LOST, "kind": "NodeGone"}, r"events\[0\]: .*NodeGone.*NodeLost", id="no such kind"),
        pytest.param({"atSeconds": 5}, r"events\[0\]: says no kind", id="no kind"),
        pytest.param({**LOST, "forSeconds": 0}, r"events\[0\].forSeconds: ", id="away for no time"),
        pytest.param(
            {"atSeconds": 5, "kind": "BudgetCut", "domain": "rack", "budgetWatts": 9000},
            r"events\[0\].domain: there is no PowerDomain rack",
            id="no such domain",
        ),
    ],
)
def test_an_event_that_cannot_be_is_refused_by_field(folder: Folder, event: dict[str, object], says: str) -> None:
    folder.scenario(run={"events": [event]})
    with pytest.raises(errors.Invalid, match=says):
        read(folder).scenario()


def test_a_node_that_is_away_is_not_lost_again(folder: Folder) -> None:
    folder.scenario(run={"events": [LOST, {**LOST, "atSeconds": 90}]})
    with pytest.raises(errors.Invalid, match=r"events\[1\].node: gpu-1 is away already"):
        read(folder).scenario()


def test_the_marks_of_a_run_say_what_happened(folder: Folder) -> None:
    folder.scenario(run={"events": [{**LOST, "forSeconds": 20}]})
    made = read(folder).scenario()
    assert events.marks(made) == (Mark(60.0, "gpu-1 is lost"), Mark(80.0, "gpu-1 is back"))


# --- start ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--startup", None])
def test_the_start_up_time_is_a_flag(folder: Folder, flag: str | None) -> None:
    made = read(folder, startup_s=480 if flag else None).scenario()
    assert made.startup_s == (480.0 if flag else 30.0)
    assert dict(made.notes)["start-up"].startswith("480 s" if flag else "30 s")
