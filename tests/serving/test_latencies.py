"""Latencies apart by cap, from histograms that a reader can count."""

from __future__ import annotations

import math

import pytest

from capstan.model import reading
from capstan.model.reading import Histogram, PodReading
from capstan.serving import latencies, observe
from capstan.serving.cluster import Node, Pod, Workload
from capstan.serving.latencies import Latency
from capstan.serving.store import Kind
from capstan.serving.view import Pool, View
from support import builders
from support.serving import Stage, chat

NOW_S = 10_000.0
NODES = {name: Node(name, {}) for name in ("cold", "hot")}
FAST = Histogram((0.1, 1.0, math.inf), (100.0, 100.0, 100.0))
SLOW = Histogram((0.1, 1.0, math.inf), (0.0, 100.0, 100.0))
PODS = (("a", "cold"), ("b", "hot"), ("c", "hot"))


def view() -> View:
    pods = tuple(Pod("llm", name, {}, node, NOW_S - 600, False, "", "") for name, node in PODS)
    workload = Workload("llm", "chat", "u", {}, "1", 1, len(pods), len(pods), {}, "p", "", "")
    raw = {"metadata": {"namespace": "llm", "name": "chat"}}
    return View(raw, builders.policy(), (Pool("all", 4, "llm/chat", workload, pods),), targeted=False)


def read(name: str, ttft: Histogram, age_s: float | None = 3.0, tpot: Histogram | None = FAST) -> PodReading:
    return PodReading(namespace="llm", pod=name, age_s=age_s, ttft=ttft, tpot=tpot)


def seen(*readings: PodReading) -> observe.Sources:
    return observe.sources(reading.Readings(NOW_S, readings), NODES, now_s=NOW_S)


ALL = (read("a", FAST), read("b", SLOW), read("c", SLOW))


def test_capped_pods_are_told_apart_from_the_others() -> None:
    """p99 of 100 requests within 0.1 s is 0.099 s; within the bucket from 0.1 to 1 s it is 0.1 + 0.9 x 0.99."""
    others, capped = latencies.by_cap(view(), seen(*ALL), {"hot"})
    assert (others.capped, capped.capped) == (False, True)
    assert (others.ttft_s, capped.ttft_s) == pytest.approx((0.099, 0.991))
    assert (others.tpot_s, capped.tpot_s) == pytest.approx((0.099, 0.099))


def test_where_nothing_is_capped_all_are_the_others() -> None:
    """p99 of 300 is the 297th: the 197th of the 200 in the slow bucket."""
    (others,) = latencies.by_cap(view(), seen(*ALL), frozenset())
    assert others.ttft_s == pytest.approx(0.1 + 0.9 * 197 / 200)


def test_the_order_of_pods_and_nodes_is_irrelevant() -> None:
    assert latencies.by_cap(view(), seen(*reversed(ALL)), {"hot"}) == latencies.by_cap(view(), seen(*ALL), {"hot"})


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param((), id="no reading"),
        pytest.param((read("b", SLOW, age_s=None),), id="no engine series"),
        pytest.param((read("b", SLOW, age_s=observe.FRESH_S + 1),), id="a scrape of long ago"),
    ],
)
def test_what_is_not_fresh_is_absent_and_not_zero(silent: tuple[PodReading, ...]) -> None:
    assert [each.capped for each in latencies.by_cap(view(), seen(read("a", FAST), *silent), {"hot"})] == [False]


def test_a_latency_that_nobody_counted_is_none() -> None:
    empty = Histogram((1.0, math.inf), (0.0, 0.0))
    found = latencies.by_cap(view(), seen(read("a", empty, tpot=None)), frozenset())
    assert found == (Latency(capped=False, ttft_s=None, tpot_s=None),)


@pytest.mark.parametrize(("state", "capped"), [("LowBase", True), ("Normal", False)])
async def test_a_cycle_tells_them_apart_by_what_its_domains_say(state: str, capped: bool) -> None:
    """The one pod stands in rack 7, whose state is what it is."""
    stage = Stage()
    stage.cluster.node(rack="7")
    spec = {"mode": "Act", "nodeSelector": {"matchLabels": {"rack": "7"}}}
    metadata = {"name": "rack-7", "uid": "rack", "generation": 1}
    stage.store.put(
        Kind.DOMAIN, {"kind": "PowerDomain", "metadata": metadata, "spec": spec, "status": {"state": state}}
    )
    stage.apply(chat())
    (news,) = (await stage.tick(4)).news
    (told,) = news.latencies
    assert told.capped is capped
    assert told.ttft_s == pytest.approx(0.396)  # p99 of the requests within 0.4 s
