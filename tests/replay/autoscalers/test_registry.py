"""What all rebuilt autoscalers have in common, and the page that tells their defaults."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.autoscalers import defaults, frame, reference
from capstan.replay.autoscalers.registry import REGISTRY, VARIANTS
from capstan.replay.seen import ReplicaSeen
from support import autoscalers as fake

ALL = {**REGISTRY, **VARIANTS}
NAMED = {
    "hpa-queue", "keda-slo", "wva-v1", "wva-v2", "aibrix-apa", "aibrix-kpa", "dynamo-sla", "dynamo-load", "kubeai",
    "static-clock", "throttllem-like", "voltana-like",
}  # fmt: skip


def test_the_list_is_that_of_the_facts() -> None:
    assert set(REGISTRY) == NAMED
    assert not set(REGISTRY) & set(VARIANTS)


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_carries_its_name_caps_no_power_and_starts_where_everybody_starts(name: str) -> None:
    system, service = ALL[name](), fake.service(3)
    assert system.name == name
    assert system.caps_power is False
    assert system.period_s > 0
    assert system.start(service) == service.start


PODS = st.builds(
    ReplicaSeen,
    replica=st.just(0),
    tp=st.just(4),
    ready=st.booleans(),
    draining=st.booleans(),
    running=st.integers(0, 256),
    waiting=st.integers(0, 500),
    kv_usage=st.floats(0, 1),
    kv_tokens=st.integers(0, 400_000),
)
OWNERS = {o for _, o in inspect.getmembers(defaults, inspect.isclass) if dataclasses.is_dataclass(o)} - {defaults.Rate}
MAYBE = st.none() | st.floats(0.001, 100)
WINDOWS = st.builds(
    fake.FakeWindow,
    span_s=st.floats(0, 4000),
    arrivals=st.integers(0, 50_000),
    finished=st.integers(0, 50_000),
    prompt_tokens_mean=st.none() | st.floats(1, 20_000),
    output_tokens_mean=st.none() | st.floats(1, 5_000),
    ttft=MAYBE,
    tpot=MAYBE,
)


@pytest.mark.parametrize("name", sorted(ALL))
@given(moments=st.lists(st.tuples(st.lists(PODS, max_size=5), WINDOWS), min_size=1, max_size=4))
def test_whatever_it_sees_it_stays_inside_the_bounds_and_on_the_clock_grid(
    name: str, moments: list[tuple[list[ReplicaSeen], fake.FakeWindow]]
) -> None:
    """No pods, no requests, nothing finished, absurd latencies: a legal answer or none."""
    system, service = ALL[name](), fake.service(2)
    system.start(service)
    desired, grid = 2, service.profiles[0].clocks
    for i, (pods, window) in enumerate(moments):
        for want in system.plan(fake.moment(300.0 * i, fake.seen(*pods, desired=desired, window=window))):
            assert 1 <= want.replicas <= 12
            assert want.tp == 4
            if want.clock_cap_mhz is not None:
                assert grid.snapped_mhz(want.clock_cap_mhz) == want.clock_cap_mhz
            desired = want.replicas


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_same_sights_give_the_same_plans(name: str) -> None:
    def played() -> list[object]:
        system = ALL[name]()
        system.start(fake.service(2))
        busy = [fake.pod(running=200, waiting=30, kv_usage=0.7, held=280_000)] * 2
        return [system.plan(fake.moment(5.0 * i, fake.seen(*busy))) for i in range(80)]

    assert played() == played()


def test_bounds_are_the_tightest_of_policy_gpus_and_fleet() -> None:
    assert frame.Limits.of(fake.service()) == frame.Limits(1, 12)
    assert frame.Limits.of(fake.service(most_gpus=20)) == frame.Limits(1, 5)


def test_a_timer_keeps_its_beat_over_ticks_that_come_late() -> None:
    timer = frame.Timer(15.0)
    assert [t for t in range(0, 100, 4) if timer.due(float(t))] == [0, 16, 32, 48, 60, 76, 92]


def test_every_default_names_its_source() -> None:
    owners = sorted(OWNERS, key=lambda owner: owner.__name__)
    assert len(owners) == 12
    for owner in owners:
        for field in dataclasses.fields(owner):
            assert re.match(r"\[[CXMIP]\] .", defaults.source_of(owner, field.name)), f"{owner.__name__}.{field.name}"


def test_the_page_has_every_system_and_every_default(root: Path) -> None:
    text = (root / "docs" / "reference" / "autoscalers.md").read_text(encoding="utf-8")
    assert text.endswith(reference.page()), "stale: run `make gen`"
    assert {f"`{name}`" for name in NAMED} <= set(re.findall(r"`[a-z0-9-]+`", text))
    owners = {owner for _, some in reference.SECTIONS for owner in some}
    assert owners == OWNERS
