"""From pods and readings to what the decision sees, with every kind of nothing kept apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest

from capstan.model import fleet, reading, sample
from capstan.model.classes import Edges
from capstan.model.policy import Pools
from capstan.model.reasons import Reason
from capstan.model.workload import PROMPT_CV2
from capstan.serving import observe
from capstan.serving.cluster import Node, Pod, Workload
from capstan.serving.view import Pool, View
from support import builders

NOW_S = 10_000.0
NODES = {"gpu-0": Node("gpu-0", {"nvidia.com/gpu.product": builders.H100})}


def pod(
    name: str, *, ready_for_s: float | None = 600.0, leaving: bool = False, labels: Mapping[str, str] | None = None
) -> Pod:
    since_s = None if ready_for_s is None else NOW_S - ready_for_s
    return Pod("llm", name, labels or {}, "gpu-0", since_s, leaving, "", "")


def view(*pods: Pod) -> View:
    workload = Workload("llm", "chat-tp4", "u", {}, "1", 1, len(pods), len(pods), {}, "p", "", "")
    raw = {"metadata": {"namespace": "llm", "name": "chat"}}
    return View(raw, builders.policy(), (Pool("all", 4, "llm/chat-tp4", workload, pods),), targeted=False)


def read(name: str, **changes: Any) -> reading.PodReading:
    base = reading.PodReading(
        namespace="llm",
        pod=name,
        age_s=3.0,
        arrival_rps=2.0,
        sample_requests=120.0,
        finished_prompt_tokens=120_000.0,
        finished_output_tokens=24_000.0,
        running=8.0,
        waiting=0.0,
        output_tokens_per_s=400.0,
        ttft=reading.Histogram((0.5, math.inf), (120.0, 120.0)),
        tpot=reading.Histogram((0.05, math.inf), (120.0, 120.0)),
        power_w=1800.0,
        gpus=4,
        power_age_s=1.0,
    )
    return dataclasses.replace(base, **changes)


def sources(*readings: reading.PodReading, errors: tuple[reading.SourceError, ...] = ()) -> observe.Sources:
    return observe.sources(reading.Readings(NOW_S - 1, tuple(readings), errors), NODES, now_s=NOW_S)


def seen(of: View, *readings: reading.PodReading, down: str = "") -> fleet.ServiceObserved:
    errors = tuple(reading.SourceError(s, down) for s in reading.Source) if down else ()
    return observe.service(of, sources(*readings, errors=errors), now_s=NOW_S, capped=False)


def test_pods_are_summed_and_ages_are_the_oldest_plus_the_wait_since() -> None:
    found = seen(view(pod("a"), pod("b")), read("a"), read("b", age_s=9.0, arrival_rps=3.0))
    assert found.arrival_rps == sample.Fresh(5.0, 10.0)  # 2 + 3 rps; 9 s old when asked, 1 s ago
    assert found.prompt_tokens == sample.Fresh(1000.0, 10.0)
    assert found.power_w == sample.Fresh(3600.0, 2.0)
    assert found.gpu_product == builders.H100
    assert (found.pools[0].ready, found.pools[0].starting, found.pools[0].terminating) == (2, 0, 0)


@pytest.mark.parametrize(
    ("readings", "down", "reason"),
    [
        ((), "refused", Reason.SOURCE_DOWN),
        ((), "", Reason.LABEL_MISMATCH),
        ((read("a"),), "", Reason.LABEL_MISMATCH),
        ((read("a"), read("b", arrival_rps=None)), "", Reason.LABEL_MISMATCH),
    ],
    ids=["source-down", "no-series-at-all", "one-pod-of-two", "one-pod-without-a-rate-or-with-nan"],
)
def test_a_sum_that_is_not_whole_is_no_number(
    readings: tuple[reading.PodReading, ...], down: str, reason: Reason
) -> None:
    assert seen(view(pod("a"), pod("b")), *readings, down=down).arrival_rps == sample.Missing(reason)


def test_no_traffic_is_a_number_and_its_lengths_are_not() -> None:
    quiet = read("a", arrival_rps=0.0, sample_requests=0.0, finished_prompt_tokens=0.0, ttft=None, tpot=None)
    found = seen(view(pod("a")), quiet)
    assert found.arrival_rps == sample.Fresh(0.0, 4.0)
    assert found.prompt_tokens == sample.Missing(Reason.NO_TRAFFIC)
    assert found.ttft_s == sample.Missing(Reason.NO_TRAFFIC)
    condition = observe.metrics_condition(found, (), "")
    assert (condition.holds, condition.reason) == (True, Reason.NO_TRAFFIC)


def test_an_old_scrape_is_stale_and_keeps_its_value_for_people() -> None:
    found = seen(view(pod("a")), read("a", age_s=60.0))
    assert found.arrival_rps == sample.Stale(2.0, 61.0)
    condition = observe.metrics_condition(found, (), "")
    assert (condition.holds, condition.reason) == (False, Reason.STALE_DATA)


def test_a_new_pod_that_no_scrape_has_seen_is_starting_and_no_mismatch() -> None:
    """Its load is not in the sums, so it must not divide them: the others would look idler than they are."""
    both = view(pod("a"), pod("b", ready_for_s=10.0))
    found = seen(both, read("a"))
    assert (found.pools[0].ready, found.pools[0].starting) == (1, 1)
    assert isinstance(found.arrival_rps, sample.Fresh)
    assert observe.lost_pods(both, sources(read("a")), now_s=NOW_S) == ()


def test_while_the_source_is_down_ready_pods_stay_ready() -> None:
    found = seen(view(pod("a"), pod("b", ready_for_s=10.0)), down="refused")
    assert found.pools[0].ready == 2


@pytest.mark.parametrize(
    "leaving",
    [pod("b", leaving=True), pod("b", labels={"capstan.dev/state": "draining"})],
    ids=["deleted", "labelled-draining"],
)
def test_a_draining_pod_counts_for_power_and_not_for_service(leaving: Pod) -> None:
    found = seen(view(pod("a"), leaving), read("a"), read("b"))
    assert (found.pools[0].ready, found.pools[0].terminating) == (1, 1)
    assert isinstance(found.power_w, sample.Fresh)
    assert found.power_w.value == 3600.0


# --- stress --------------------------------------------------------------------------------------


def strained(name: str = "a", *, count: float = 400.0, **changes: object) -> reading.PodReading:
    """Five minutes in which every TTFT lay in 2.7 to 3 s, of a limit of 2."""
    ttft = reading.Histogram((2.7, 3.0, math.inf), (0.0, count, count))
    tpot = reading.Histogram((0.05, math.inf), (count, count))
    return read(name, ttft_lately=ttft, tpot_lately=tpot, **changes)


@pytest.mark.parametrize(
    ("pods", "readings", "stress"),
    [
        pytest.param((pod("a"),), (strained(),), sample.Fresh(2.997 / 2, 4.0), id="known"),
        pytest.param((pod("a"),), (strained(age_s=60.0),), sample.Stale(2.997 / 2, 61.0), id="an old scrape"),
        pytest.param((pod("a"),), (strained(count=199.0),), sample.Missing(Reason.NO_DATA), id="too few requests"),
        pytest.param((pod("a"),), (read("a"),), sample.Missing(Reason.NO_DATA), id="no histogram of so long"),
        pytest.param(
            (pod("a", ready_for_s=299.0),), (strained(),), sample.Missing(Reason.NO_DATA), id="nobody served all of it"
        ),
        pytest.param(
            (pod("a", ready_for_s=299.0), pod("b", ready_for_s=300.0)),
            (strained("a"), strained("b")),
            sample.Fresh(2.997 / 2, 4.0),
            id="one pod did",
        ),
        pytest.param(
            (pod("a", ready_for_s=299.0), pod("b", leaving=True)),
            (strained("a"), strained("b")),
            sample.Missing(Reason.NO_DATA),
            id="one did and leaves",
        ),
        pytest.param(
            (pod("a"),),
            (strained(arrival_rps=0.0, count=0.0),),
            sample.Missing(Reason.NO_TRAFFIC),
            id="nobody asked for anything",
        ),
        pytest.param((pod("a"),), (), sample.Missing(Reason.LABEL_MISMATCH), id="the pod is not in the metrics"),
    ],
)
def test_stress_is_told_where_five_minutes_tell_it(
    pods: tuple[Pod, ...], readings: tuple[reading.PodReading, ...], stress: sample.Sample[float]
) -> None:
    found = seen(view(*pods), *readings).stress_ratio
    if isinstance(found, sample.Missing) or isinstance(stress, sample.Missing):
        assert found == stress
    else:
        assert type(found) is type(stress)
        assert found.value == pytest.approx(stress.value)
        assert found.age_s == stress.age_s


# --- start-up ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("startups_s", "expected_s"),
    [
        pytest.param((60.0, 600.0, 90.0), 90.0, id="the median: one slow node is no rule"),
        pytest.param((60.0, None), 60.0, id="a pod that cannot tell is left out"),
        pytest.param((None,), None, id="nobody can tell"),
        pytest.param((), None, id="no pod"),
    ],
)
def test_a_pools_start_up_is_its_pods(startups_s: tuple[float | None, ...], expected_s: float | None) -> None:
    pods = (dataclasses.replace(pod(f"p{i}"), startup_s=took_s) for i, took_s in enumerate(startups_s))
    assert seen(view(*pods)).pools[0].startup_s == expected_s


def test_watts_that_lack_a_serving_gpu_are_none() -> None:
    assert seen(view(pod("a")), read("a", gpus=3)).power_w == sample.Missing(Reason.NO_DATA)


def test_nothing_is_ready_yet() -> None:
    found = seen(view(pod("a", ready_for_s=None)))
    assert found.arrival_rps == sample.Missing(Reason.STARTING)
    assert observe.metrics_condition(found, (), "").holds is None
    assert (found.pools[0].ready, found.pools[0].starting) == (0, 1)


def test_a_pod_that_no_node_has_room_for_is_starting_and_pending() -> None:
    """One that drains is on its way out, whatever the scheduler said of it."""
    waits, leaves = (
        dataclasses.replace(
            pod(name, ready_for_s=None), blocked="0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
        )
        for name in ("waits", "leaves")
    )
    found = seen(view(pod("starts", ready_for_s=None), waits, dataclasses.replace(leaves, terminating=True)))
    assert (found.pools[0].starting, found.pools[0].pending, found.pools[0].terminating) == (2, 1, 1)


def test_many_lost_pods_are_named_up_to_five() -> None:
    lost = tuple(f"chat-{i}" for i in range(8))
    message = observe.metrics_condition(seen(view()), lost, "").message
    assert "chat-4" in message
    assert "chat-5" not in message
    assert "and 3 more" in message


# --- request classes -----------------------------------------------------------------------------


def by_class(of: View) -> View:
    policy = dataclasses.replace(of.policy, pools=Pools(by_class=True))
    return dataclasses.replace(of, policy=policy)


def lengths(count: float, *, to_200: float = 0.5, mean_tokens: float = 250.0) -> reading.Lengths:
    """Return lengths of `count` requests, a share of them of 101 to 200 tokens and the others of 201 to 500."""
    edges = (100.0, 200.0, 500.0, math.inf)
    return reading.Lengths(reading.Histogram(edges, (0.0, to_200 * count, count, count)), mean_tokens * count)


def test_classes_share_the_services_rate() -> None:
    """Two pods of 2 rps each: half of the requests of 101 to 200 tokens on one, a tenth on the other."""
    one = read("a", prompts=lengths(60), outputs=lengths(60))
    other = read("b", prompts=lengths(60, to_200=0.1), outputs=lengths(60))
    found = seen(by_class(view(pod("a"), pod("b"))), one, other)
    assert sum(demand.arrival_rps for demand in found.classes) == pytest.approx(4.0)
    short = sum(d.arrival_rps for d in found.classes if Edges().prompt_bucket(d.code) == 0)
    assert short == pytest.approx(4.0 * (0.3 + 0.7 * 55 / 300)), "36 of 120 below 201, and 55/300 of the others"


@pytest.mark.parametrize(
    ("prompts", "outputs"),
    [(None, lengths(100)), (lengths(100), None), (lengths(29), lengths(100)), (lengths(100), lengths(0))],
    ids=["no histogram of prompts", "none of answers", "too few prompts to tell", "no answer yet"],
)
def test_without_lengths_classes_are_not_told_apart(
    prompts: reading.Lengths | None, outputs: reading.Lengths | None
) -> None:
    found = seen(by_class(view(pod("a"))), read("a", prompts=prompts, outputs=outputs))
    assert found.classes == ()
    assert found.arrival_rps == sample.Fresh(2.0, 4.0), "the service itself is known all the same"


@pytest.mark.parametrize(("tier_tokens", "told"), [(None, False), (256, True), (300, False)])
def test_one_pool_needs_classes_only_where_its_limits_end_with_them(tier_tokens: int | None, told: bool) -> None:
    of = view(pod("a"))
    tiers = () if tier_tokens is None else ((tier_tokens, 0.25),)
    policy = dataclasses.replace(of.policy, slo=dataclasses.replace(of.policy.slo, tiers=tiers))
    found = seen(dataclasses.replace(of, policy=policy), read("a", prompts=lengths(500), outputs=lengths(500)))
    assert bool(found.classes) is told


def test_the_spread_of_prompts_is_that_of_the_usual_until_many_requests_tell_it() -> None:
    """Whatever the histogram says of none is nothing; of few little, and of many nearly all."""
    none, few, many = (seen(view(pod("a")), read("a", prompts=lengths(count))) for count in (0, 10, 100_000))
    assert none.prompt_cv2_ratio is None
    assert few.prompt_cv2_ratio is not None
    assert many.prompt_cv2_ratio is not None
    assert abs(few.prompt_cv2_ratio - PROMPT_CV2) < abs(many.prompt_cv2_ratio - PROMPT_CV2)


def test_a_service_that_cannot_be_seen_has_no_classes() -> None:
    one = read("a", prompts=lengths(60), outputs=lengths(60))
    assert seen(by_class(view(pod("a"))), one, down="Prometheus cannot be reached").classes == ()
