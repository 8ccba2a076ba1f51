"""What a system is shown, by brute force against the run's own columns: all of it late, nothing of the future."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from capstan.replay import engine
from capstan.replay.runs import Floats, Ints, Outcomes, Run
from capstan.replay.seen import ReplicaSeen, Seen, Want
from support import small
from support.small import KEY, Scripted

SPANS_S = (5.0, 12.5, 30.0, 600.0)
DELAY_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """One window at one moment, read when it was shown: a view moves on."""

    now_s: float
    span_s: float
    covered_s: float
    arrivals: int
    finished: int
    lengths: tuple[float | None, float | None]
    spread: float | None
    tokens_per_s: float
    ttft_s: tuple[float | None, ...]
    tpot_s: tuple[float | None, ...]
    power_w: float | None
    means: tuple[float | None, float | None]
    replicas: tuple[ReplicaSeen, ...]
    counts: tuple[int, int, int, int]


QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclasses.dataclass
class Watcher(Scripted):
    """Writes down every figure of several windows whenever it is asked."""

    notes: list[Look] = dataclasses.field(default_factory=list)

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        (service,) = seen.services
        for span_s in SPANS_S:
            w = service.window(span_s)
            self.notes.append(
                Look(
                    seen.now_s,
                    span_s,
                    w.span_s,
                    w.arrivals,
                    w.finished,
                    (w.prompt_tokens_mean, w.output_tokens_mean),
                    w.prompt_cv2_ratio,
                    w.output_tokens_per_s,
                    tuple(w.ttft_s(q) for q in QUANTILES),
                    tuple(w.tpot_s(q) for q in QUANTILES),
                    w.power_w,
                    (w.running_mean(), w.waiting_mean()),
                    service.replicas,
                    (service.desired, service.ready, service.starting, service.draining),
                )
            )
        return super().plan(seen)


SCRIPT = {20.0: Want(KEY, 4, 3), 60.0: Want(KEY, 4, 1)}


@pytest.fixture(scope="module")
def watched() -> tuple[Run, list[Look]]:
    """A run that is watched every 5 s, at a load that queues now and then."""
    system = Watcher(SCRIPT)
    return engine.run(small.scenario(small.requests(600, 8.0)), system), system.notes


@pytest.fixture(scope="module", params=[DELAY_S, 3.0, 0.5], ids=["on a tick", "between ticks", "just before one"])
def delayed(request: pytest.FixtureRequest) -> tuple[Run, list[Look], float]:
    """The same with other delays: a window may end between two ticks, where the world is already further on."""
    delay_s = float(request.param)
    system = Watcher(SCRIPT)
    made = dataclasses.replace(small.scenario(small.requests(600, 8.0)), telemetry_s=delay_s)
    return engine.run(made, system), system.notes, delay_s


def inside(times_s: Floats, look: Look, delay_s: float) -> Ints:
    """Rows of a moment within (start, end] of a window that ends one delay ago."""
    end_s = max(look.now_s - delay_s, 0.0)
    start_s = max(end_s - look.span_s, 0.0)
    first = times_s >= 0 if start_s == 0 else times_s > start_s
    return np.asarray(np.flatnonzero(first & (times_s <= end_s)), dtype=np.int64)


def rank(values: Floats, quantile: float) -> float | None:
    """The nearest rank, by sorting."""
    return float(np.sort(values)[max(math.ceil(quantile * len(values) - 1e-9), 1) - 1]) if len(values) else None


def outcomes(run: Run) -> Outcomes:
    return run.services[0].outcomes


def test_the_windows_were_worth_looking_at(watched: tuple[Run, list[Look]]) -> None:
    _, looks = watched
    assert len(looks) == len(SPANS_S) * 15
    assert max(look.finished for look in looks) > 300
    assert any((look.means[1] or 0) > 1 for look in looks), "a queue was seen"


def test_arrivals_and_completions_are_those_of_the_columns_one_delay_ago(
    delayed: tuple[Run, list[Look], float],
) -> None:
    run, looks, delay_s = delayed
    done = outcomes(run)
    for look in looks:
        arrived = inside(done.requests.arrival_s, look, delay_s)
        finished = inside(done.finish_s, look, delay_s)
        covered_s = min(look.span_s, max(look.now_s - delay_s, 0.0))
        assert look.covered_s == pytest.approx(covered_s)
        assert (look.arrivals, look.finished) == (len(arrived) if covered_s else 0, len(finished)), look
        tokens = int(done.requests.output_tokens[finished].sum())
        assert look.tokens_per_s == pytest.approx(tokens / covered_s if covered_s else 0.0)


def test_lengths_and_latencies_are_those_of_who_finished_in_the_window(
    delayed: tuple[Run, list[Look], float],
) -> None:
    run, looks, delay_s = delayed
    done = outcomes(run)
    ttft_s = done.first_s - done.requests.arrival_s
    outputs = done.requests.output_tokens
    tpot_s = (done.finish_s - done.first_s) / np.maximum(outputs - 1, 1)
    for look in looks:
        ids = inside(done.finish_s, look, delay_s)
        several = ids[outputs[ids] > 1]
        means = [float(c[ids].mean()) if len(ids) else None for c in (done.requests.prompt_tokens, outputs)]
        assert list(look.lengths) == means
        prompts = done.requests.prompt_tokens[ids]
        assert look.spread == (pytest.approx(prompts.var() / prompts.mean() ** 2) if len(ids) else None)
        assert look.ttft_s == tuple(rank(ttft_s[ids], q) for q in QUANTILES)
        assert look.tpot_s == tuple(rank(tpot_s[several], q) for q in QUANTILES)


def test_what_is_shown_depends_on_nothing_that_comes_later() -> None:
    """A trace that is cut off at 60 s, and the same with another minute of heavier load: equal looks up to 60 s."""
    whole = small.requests(600, 8.0)
    early = whole.arrival_s <= 60.0
    cut = dataclasses.replace(
        whole,
        arrival_s=whole.arrival_s[early],
        prompt_tokens=whole.prompt_tokens[early],
        output_tokens=whole.output_tokens[early],
    )
    watchers = []
    for trace in (whole, cut):
        watchers.append(Watcher(SCRIPT))
        engine.run(small.scenario(trace), watchers[-1])
    looks = [[look for look in watcher.notes if look.now_s <= 60.0] for watcher in watchers]
    assert len(looks[0]) == len(SPANS_S) * 12
    assert looks[0] == looks[1]


def test_watts_are_the_joules_between_two_ticks(watched: tuple[Run, list[Look]]) -> None:
    """Windows of whole ticks: the mean of the series' watts over the ticks inside, weighted by their length."""
    run, looks = watched
    series = run.services[0].series
    seen = 0
    for look in looks:
        end_s = look.now_s - DELAY_S
        start_s = max(end_s - look.span_s, 0.0)
        if end_s <= 0 or (start_s % 5.0):
            continue
        rows = (series.t_s > start_s + 1e-9) & (series.t_s <= end_s + 1e-9)
        assert look.power_w == pytest.approx(float(series.gpus_w[rows].mean())), look
        seen += 1
    assert seen > 40


def test_queues_are_means_over_the_ticks_inside(watched: tuple[Run, list[Look]]) -> None:
    run, looks = watched
    series = run.services[0].series
    for look in looks:
        end_s = look.now_s - DELAY_S
        rows = (series.t_s > max(end_s - look.span_s, 0.0) + 1e-9) & (series.t_s <= end_s + 1e-9)
        means = [float(c[rows].mean()) if rows.any() else None for c in (series.running, series.waiting)]
        assert look.means == pytest.approx(means)


def test_pods_are_counted_now_and_their_metrics_are_late(watched: tuple[Run, list[Look]]) -> None:
    """Scaled to 3 at 20 s: at 25 s the API server shows two that start, their metrics come at 30 s."""
    _, looks = watched
    by_time = {look.now_s: look for look in looks}
    assert by_time[20.0].counts == (1, 1, 0, 0)
    assert by_time[25.0].counts == (3, 1, 2, 0)
    assert [len(by_time[t].replicas) for t in (5.0, 10.0, 25.0, 30.0)] == [0, 1, 1, 3]
    assert by_time[50.0].counts == (3, 3, 0, 0)
    ready = [sum(replica.ready for replica in by_time[t].replicas) for t in (50.0, 55.0)]
    assert ready == [1, 3]


def test_a_request_before_the_pool_is_seen_waiting() -> None:
    """Nobody is ready until 30 s: all that arrived up to 20 s wait unrouted at 25 s."""
    seen: dict[float, int] = {}

    class Waits(Scripted):
        def plan(self, moment: Seen) -> tuple[Want, ...]:
            seen[moment.now_s] = moment.services[0].waiting_unrouted
            return (Want(KEY, 4, 1),)

    trace = small.requests()
    engine.run(small.scenario(trace, replicas=0), Waits({}))
    assert seen[25.0] == int(np.searchsorted(trace.arrival_s, 20.0, "right"))
    assert seen[60.0] == 0


def test_peaks_are_the_highest_of_each_replica_that_is_ready_at_the_end() -> None:
    """Against the peaks of what was shown tick by tick over the same minute."""
    shown: list[tuple[float, tuple[ReplicaSeen, ...]]] = []
    peaks: list[tuple[float, dict[int, float], dict[int, int]]] = []

    class Peaks(Scripted):
        def plan(self, moment: Seen) -> tuple[Want, ...]:
            (service,) = moment.services
            shown.append((moment.now_s, service.replicas))
            window = service.window(30.0)
            peaks.append((moment.now_s, dict(window.peak_kv_usage()), dict(window.peak_waiting())))
            return super().plan(moment)

    engine.run(small.scenario(small.requests(600, 8.0)), Peaks(SCRIPT))
    for now_s, kv_usage, waiting in peaks:
        recent = [r for at_s, pods in shown if max(now_s - 30.0, DELAY_S) < at_s <= now_s for r in pods]
        last = shown[[at_s for at_s, _ in shown].index(now_s)][1]
        ready = [r.replica for r in last if r.ready and not r.draining]
        assert kv_usage == {i: max(r.kv_usage for r in recent if r.replica == i) for i in ready}
        assert waiting == {i: max(r.waiting for r in recent if r.replica == i) for i in ready}
    assert max(max(queues.values(), default=0) for _, _, queues in peaks) > 0
