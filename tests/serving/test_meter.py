"""A cycle's figures as a scrape reads them, and as the one log line tells them."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families

from capstan.adapters.metrics import Metrics
from capstan.app.meter import Meter
from capstan.serving import report
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
