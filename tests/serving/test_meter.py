"""A cycle's figures as a scrape reads them, and as the one log line tells them."""

from __future__ import annotations

import dataclasses
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from capstan.adapters.metrics import Metrics
from capstan.app.meter import Meter
from capstan.model import sample
from capstan.model.fleet import ClassDemand
from capstan.model.plan import Effect, PoolPlan, PowerPlan, Share
from capstan.model.reasons import Reason
from capstan.serving import report
from capstan.serving.latencies import Latency
from support.serving import Stage, chat

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(metrics: Metrics) -> Samples:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


OF = {"namespace": "llm", "policy": "chat"}


async def test_plan_load_and_energy_are_published_and_what_is_unknown_has_no_series() -> None:
    stage, metrics = Stage(), Metrics("operator")
    meter = Meter(metrics)
    stage.apply(chat())
    for _ in range(4):
        meter.cycle(await stage.tick())
    samples = scrape(metrics)
    target = {**OF, "pool": "all", "target": "chat-tp4"}
    assert value(samples, "capstan_desired_replicas", **target) == 1
    assert value(samples, "capstan_current_replicas", **target) == 1
    assert value(samples, "capstan_arrival_rate", **OF) == 1.0
    assert value(samples, "capstan_policy_power_watts", **OF) == 1800.0
    # Ready since the second cycle: 1,800 W over the two periods of 5 s from there.
    assert value(samples, "capstan_policy_energy_joules_total", **OF) == 1800.0 * 5 * 3
    assert value(samples, "capstan_input_age_seconds", source="engine") == 2.0

    stage.telemetry.error = "refused"
    meter.cycle(await stage.tick())
    samples = scrape(metrics)
    assert value(samples, "capstan_arrival_rate", **OF) is None
    assert value(samples, "capstan_policy_power_watts", **OF) is None
    assert value(samples, "capstan_desired_replicas", **target) == 1
    assert value(samples, "capstan_decisions_total", knob="replicas", reason="SourceDown") == 1


async def test_joules_per_request_are_published_once_five_minutes_are_over_and_judged_after_an_hour() -> None:
    """1,800 W at 1 request a second: 1,800 J a request; then 2,700 W, 900 J more: 25 times the least spread of 2 %."""
    stage, metrics = Stage(), Metrics("operator")
    meter = Meter(metrics)
    stage.apply(chat())
    await stage.tick(4)
    done = await stage.tick()
    (news,) = done.news
    route = {**OF, "route": "all"}

    def after(windows: int, power_w: float, start_s: float) -> Samples:
        seen = dataclasses.replace(news.seen, power_w=sample.Fresh(power_w, 1.0))
        for i in range(1, 60 * windows + 1):
            news_now = (dataclasses.replace(news, seen=seen),)
            meter.cycle(dataclasses.replace(done, now_s=start_s + 5.0 * i, news=news_now))
        return scrape(metrics)

    meter.cycle(done)
    samples = after(13, 1800.0, done.now_s)
    assert value(samples, "capstan_request_joules", **route) == pytest.approx(1800)
    samples = after(1, 2700.0, done.now_s + 13 * 300)
    assert value(samples, "capstan_request_joules", **route) == pytest.approx(2700, rel=0.02)
    assert value(samples, "capstan_request_joules_anomaly", **route) == pytest.approx(25, rel=0.04)

    meter.cycle(dataclasses.replace(done, now_s=done.now_s + 1e4, news=()))
    assert value(scrape(metrics), "capstan_request_joules", **route) is None


async def test_an_advising_knob_that_would_act_is_counted_as_held_by_advice() -> None:
    stage, metrics = Stage(), Metrics("operator")
    stage.telemetry.rps = 12.0
    stage.apply(chat(knobs__replicas="Advise"))
    await stage.tick(4)
    Meter(metrics).cycle(await stage.tick())
    assert value(scrape(metrics), "capstan_held_decisions_total", reason="AdviseOnly") == 1


async def test_the_log_line_of_a_cycle_holds_ages_plans_reasons_writes_and_durations() -> None:
    stage = Stage()
    stage.apply(chat())
    stage.apply(chat("odd", slo__tpotMilliseconds=0))
    done = report.line(await stage.tick(4))
    assert json.loads(json.dumps(done)) == done
    assert done["event"] == "cycle"
    assert done["ages_s"] == {"cluster": 0.0, "engine": 2.0, "gpu": 1.0}
    policies = done["policies"]
    assert isinstance(policies, list)
    assert [p["policy"] for p in policies] == ["llm/chat"]
    assert policies[0]["replicasReason"] == "NoChangeNeeded"
    unread = done["unread"]
    assert isinstance(unread, list)
    assert "spec.slo.tpotMilliseconds" in unread[0]
    steps = done["steps_ms"]
    assert isinstance(steps, dict)
    assert set(steps) == {"observe", "decide", "actuate", "say"}


async def test_advice_and_the_class_mix_are_published() -> None:
    """Two pools advised where one serves: degrees, counts, a clock and watts; and what arrives per class."""
    stage, metrics = Stage(), Metrics("operator")
    stage.apply(chat(pools={"scheme": "ByClass"}))
    done = await stage.tick(3)
    (news,) = done.news
    pools = (PoolPlan("sm", 4, 2, 1410.0, (0, 1, 2, 3, 4, 5)), PoolPlan("l", 8, 1, None, (6, 7, 8)))
    decision = dataclasses.replace(
        news.decision, advice=pools, advice_reason=Reason.LEAST_ENERGY, advice_expected=Effect(power_w=7100.0)
    )
    seen = dataclasses.replace(news.seen, classes=(ClassDemand(0, 1.5, 100.0, 50.0), ClassDemand(8, 0.5, 4e3, 500.0)))
    told = dataclasses.replace(done, news=(dataclasses.replace(news, decision=decision, seen=seen),))
    meter = Meter(metrics)
    meter.cycle(told)
    samples = scrape(metrics)
    assert value(samples, "capstan_advised_replicas", **OF, pool="sm", tp="4") == 2
    assert value(samples, "capstan_advised_replicas", **OF, pool="l", tp="8") == 1
    assert value(samples, "capstan_advised_clock_cap_megahertz", **OF, pool="sm") == 1410
    assert value(samples, "capstan_advised_clock_cap_megahertz", **OF, pool="l") is None
    assert value(samples, "capstan_advised_power_watts", **OF) == 7100
    assert value(samples, "capstan_class_arrival_rate", **{**OF, "class": "SS"}) == 1.5
    assert value(samples, "capstan_class_arrival_rate", **{**OF, "class": "LL"}) == 0.5
    assert value(samples, "capstan_decisions_total", knob="advice", reason="LeastEnergy") == 1
    line = report.line(told)["policies"]
    assert isinstance(line, list)
    assert (line[0]["advice"], line[0]["adviceReason"]) == ("sm:2xtp4@1410MHz l:1xtp8", "LeastEnergy")

    meter.cycle(done)  # the advice is gone, and so are its series
    assert value(scrape(metrics), "capstan_advised_replicas", **OF, pool="sm", tp="4") is None


async def test_without_advice_nothing_is_said_of_it() -> None:
    stage, metrics = Stage(), Metrics("operator")
    stage.apply(chat())
    done = await stage.tick(3)
    Meter(metrics).cycle(done)
    names = {name for name, _ in scrape(metrics)}
    assert not {name for name in names if name.startswith("capstan_advised")}
    line = report.line(done)["policies"]
    assert isinstance(line, list)
    assert "advice" not in line[0]
    assert "advice" not in stage.cluster.statuses["llm/chat"]


async def test_what_to_do_while_gpus_are_capped_is_published_and_gone_afterwards() -> None:
    stage, metrics = Stage(), Metrics("operator")
    meter = Meter(metrics)
    stage.apply(chat())
    done = await stage.tick()
    (news,) = done.news
    power = PowerPlan((Share("rack-7", 4, 0.4), Share("rack-8", 4, 1.0)), shed_ratio=0.15)
    capped = dataclasses.replace(news, decision=dataclasses.replace(news.decision, power=power))
    meter.cycle(dataclasses.replace(done, news=(capped,)))
    samples, rack = scrape(metrics), {**OF, "domain": "rack-7", "tp": "4"}
    assert value(samples, "capstan_shed_ratio", **OF) == 0.15
    assert value(samples, "capstan_route_weight", **rack) == 0.4
    meter.cycle(done)
    assert value(scrape(metrics), "capstan_shed_ratio", **OF) == 0
    assert value(scrape(metrics), "capstan_route_weight", **rack) is None


async def test_latencies_of_capped_pods_and_of_the_others_stand_apart_by_priority() -> None:
    stage, metrics = Stage(), Metrics("operator")
    meter = Meter(metrics)
    stage.apply(chat())
    done = await stage.tick(4)
    (news,) = done.news
    apart = (Latency(capped=False, ttft_s=0.4, tpot_s=0.03), Latency(capped=True, ttft_s=1.2, tpot_s=None))
    meter.cycle(dataclasses.replace(done, news=(dataclasses.replace(news, latencies=apart),)))
    samples, of = scrape(metrics), {**OF, "priority": "low"}
    assert value(samples, "capstan_latency_seconds", **of, capped="false", slo="ttft") == 0.4
    assert value(samples, "capstan_latency_seconds", **of, capped="false", slo="tpot") == 0.03
    assert value(samples, "capstan_latency_seconds", **of, capped="true", slo="ttft") == 1.2
    assert value(samples, "capstan_latency_seconds", **of, capped="true", slo="tpot") is None

    meter.cycle(done)  # nobody is capped any more
    samples = scrape(metrics)
    assert value(samples, "capstan_latency_seconds", **of, capped="true", slo="ttft") is None
    assert value(samples, "capstan_latency_seconds", **of, capped="false", slo="ttft") is not None
