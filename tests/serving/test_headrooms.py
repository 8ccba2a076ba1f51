"""What PowerDomains leave, read from their spec and status, and in which of them pods lie."""

from __future__ import annotations

from typing import Any

import pytest

from capstan.model.headroom import OUTSIDE
from capstan.model.plan import Move, PowerPlan, Share
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample
from capstan.serving import domains, manifest
from capstan.serving.headrooms import Headrooms
from capstan.serving.store import Kind
from support.serving import Stage, chat

LABEL = "capstan.node-restriction.kubernetes.io/rack"
SPEC = {
    "type": "Rack",
    "budgetWatts": 40_000,
    "nonGPUWattsPerNode": {"typical": 2800, "worstCase": 4600},
    "powerSupplyEfficiencyPercent": 94,
    "thresholds": {"lowPercent": 75, "highPercent": 85, "brakePercent": 97, "hysteresisPercent": 5},
    "mode": "Act",
}


def domain(
    name: str, *, rack: str = "", parent: str = "", state: str = "Normal", left: int | None = 9000, **spec: object
) -> dict[str, Any]:
    selector = {"nodeSelector": {"matchLabels": {LABEL: rack}}} if rack else {}
    above = {"parentName": parent} if parent else {}
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "PowerDomain",
        "metadata": {"name": name, "uid": name, "generation": 1},
        "spec": {**SPEC, **selector, **above, **spec},
        "status": {"state": state} | ({} if left is None else {"headroomWatts": left}),
    }


def test_budget_thresholds_and_caps_are_the_domains_own() -> None:
    (seen,) = Headrooms().look((domain("rack-7", rack="7", state="LowDeep"),))
    assert (seen.budget_w, seen.low_ratio, seen.high_ratio, seen.brake_ratio) == (40_000, 0.75, 0.85, 0.97)
    assert (seen.supply_efficiency_ratio, seen.headroom_w) == (0.94, Fresh(9000.0, 0.0))
    assert (seen.low_mhz, seen.high_mhz, seen.free_gpus) == (1560, None, None)


def test_under_grants_what_the_limits_leave_is_for_everybody() -> None:
    """No threshold reserves a part of it, and no clock is capped."""
    raw = domain("rack-7", rack="7", left=3000)
    raw["status"]["strategy"] = "Guaranteed"
    (seen,) = Headrooms().look((raw,))
    assert [seen.left_w(line) for line in (seen.low_ratio, seen.high_ratio, seen.brake_ratio)] == [3000, 3000, 3000]
    assert (seen.low_mhz, seen.high_mhz) == (None, None)


@pytest.mark.parametrize(
    ("state", "left", "expected"),
    [
        ("Normal", 9000, Fresh(9000.0, 0.0)),
        ("Brake", -300, Fresh(-300.0, 0.0)),
        ("Normal", None, Missing(Reason.NO_DATA)),
        ("FailSafe", 9000, Missing(Reason.TELEMETRY_LOST)),
    ],
    ids=["left", "a shortfall", "no status yet", "blind"],
)
def test_what_is_left(state: str, left: int | None, expected: Sample[float]) -> None:
    (seen,) = Headrooms().look((domain("rack-7", rack="7", state=state, left=left),))
    assert seen.headroom_w == expected


@pytest.mark.parametrize(
    ("state", "mode"), [("Normal", "Advise"), ("Disarmed", "Act"), ("", "Act")], ids=["advice", "not admitted", "new"]
)
def test_a_domain_that_does_not_act_limits_nobody(state: str, mode: str) -> None:
    assert Headrooms().look((domain("rack-7", rack="7", state=state, mode=mode),)) == ()


def test_a_domain_that_cannot_be_read_grants_nothing() -> None:
    """Its spec is wrong, and caps of its last valid one may be in force: `power` says so."""
    (seen,) = Headrooms().look((domain("rack-7", rack="7", budgetWatts="many"),))
    assert seen.headroom_w == Missing(Reason.INVALID_SPEC)
    assert seen.left_w(1.0) == 0


def test_an_ancestor_that_only_advises_is_passed_over() -> None:
    tree = (
        domain("rack-7", rack="7", parent="row"),
        domain("row", parent="feed", mode="Advise"),
        domain("feed"),
    )
    assert {seen.name: seen.parent for seen in Headrooms().look(tree)} == {"rack-7": "feed", "feed": None}


BUSY_RPS = 12.0  # more than one replica of four H100 carries within 2 s / 100 ms


async def grown(*raws: manifest.Manifest) -> Stage:
    """A busy policy with its one replica on a node of rack 7, after a minute."""
    stage = Stage()
    stage.cluster.node(**{LABEL: "7"})
    for raw in raws:
        stage.store.put(Kind.DOMAIN, dict(raw))
    stage.telemetry.rps = BUSY_RPS
    stage.apply(chat())
    await stage.tick(12)
    return stage


@pytest.mark.parametrize(
    ("raws", "grows", "status"),
    [
        ((), True, "False"),
        ((domain("rack-7", rack="7", left=39_000),), True, "False"),
        ((domain("rack-7", rack="7", left=9_000),), False, "True"),
        ((domain("rack-7", rack="7", left=None),), False, "True"),
        ((domain("rack-7", rack="7", state="LowBase", left=9_000),), True, "True"),
        ((domain("rack-7", rack="7", state="LowDeep", left=9_000),), True, "True"),
        ((domain("rack-7", rack="7", state="LowBase", left=6_500),), False, "True"),
        ((domain("rack-7", rack="7", state="HighCap", left=39_000),), False, "True"),
        ((domain("rack-7", rack="7", state="Brake", left=39_000),), False, "True"),
        ((domain("rack-7", rack="7", state="FailSafe", left=39_000),), False, "True"),
        ((domain("rack-8", rack="8", left=0),), True, "False"),
        ((domain("rack-7", rack="7", left=39_000, parent="row"), domain("row", left=0)), False, "True"),
        ((domain("rack-7", rack="7", left=0, mode="Advise"),), True, "False"),
    ],
    ids=[
        "no domain",
        "watts for it",
        "none below the low threshold",
        "nobody knows how many",
        "watts for it at the clock that low priority is capped at",
        "and at its deep one",
        "none below the high threshold",
        "high priority is capped",
        "all are",
        "blind",
        "another rack",
        "none in the row",
        "advice limits nobody",
    ],
)
async def test_replicas_grow_on_granted_watts(raws: tuple[manifest.Manifest, ...], grows: bool, status: str) -> None:
    stage = await grown(*raws)
    assert (stage.cluster.replicas("llm/chat-tp4") > 1) is grows
    assert stage.condition("PowerConstrained")[0] == status
    recorded = stage.recorder.cycles[-1]
    home = "rack-7" if any(seen.name == "rack-7" for seen in recorded.observed.domains) else OUTSIDE
    assert {place.domain for seen in recorded.observed.services for place in seen.places} <= {home}


def test_the_condition_says_what_is_advised_while_gpus_are_capped() -> None:
    power = PowerPlan(
        (Share("rack-7", 4, 0.4), Share("rack-8", 4, 1.0)), 0.15, (Move("rack-7", "rack-8", 4),), indebted=True
    )
    said = domains.power_condition(
        {"gpu-0": frozenset({"rack-7"})}, power=power, held=True, budgeted=False, closed=True
    )
    assert said.reason is Reason.POWER_LIMITED
    assert said.message == (
        "capped by PowerDomain rack-7: no scale-out into it (advice: route by weights rack-7 0.4, rack-8 1; answer 15% "
        "of its requests with 429; move a replica of tp 4 from rack-7 to rack-8); its SLO cannot be kept until then"
    )


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("LowBase", "it grows there at that clock, and below the high threshold"),
        ("HighCap", "no scale-out into it"),
        ("FailSafe", "no scale-out into it"),
    ],
)
async def test_the_condition_says_whether_it_may_grow_where_it_is_capped(state: str, said: str) -> None:
    """Low priority, one replica, in the rack."""
    stage = await grown(domain("rack-7", rack="7", state=state, left=9_000))
    assert stage.condition("PowerConstrained")[1] == Reason.POWER_LIMITED
    assert stage.condition("PowerConstrained")[2].startswith(f"capped by PowerDomain rack-7: {said}")


@pytest.mark.parametrize(
    ("held", "budgeted", "expected"),
    [
        (False, True, ""),
        (True, True, "spec.powerBudgetWatts holds the plan down"),
        (True, False, "the headroom of its PowerDomains holds the plan down"),
    ],
)
def test_the_condition_where_nothing_is_capped(held: bool, budgeted: bool, expected: str) -> None:
    said = domains.power_condition({}, held=held, budgeted=budgeted, closed=False)
    assert (said.holds, said.message) == (held, expected)
