"""The setter in process, on a driver that records: hostile lines, its limits, its watchdog on a GPU that refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.agent.ports import Failed, Pod
from capstan.agent.setter import Limits, Setter

FLOOR_MHZ = 600.0


class Driver:
    """Two boards that do what they are told, or fail with a word."""

    def __init__(self) -> None:
        self.clocks: dict[str, float | None] = {}
        self.limits: dict[str, float | None] = {}
        self.failing: set[str] = set()

    def cap_clock(self, uuid: str, clock_mhz: float) -> float:
        """Cap."""
        self._check(uuid)
        self.clocks[uuid] = clock_mhz
        return clock_mhz

    def reset_clock(self, uuid: str) -> None:
        """Lift."""
        self._check(uuid)
        self.clocks[uuid] = None

    def limit_power(self, uuid: str, limit_w: float | None) -> float:
        """Limit."""
        self._check(uuid)
        self.limits[uuid] = limit_w
        return 700 if limit_w is None else max(limit_w, 200)

    def uuids(self) -> tuple[str, ...]:
        """Both."""
        return ("a", "b")

    def _check(self, uuid: str) -> None:
        if uuid not in self.uuids():
            raise Failed("UnknownGPU", uuid)
        if uuid in self.failing:
            raise Failed("GPUIsLost", uuid)


class Kubelet:
    """Knows one pod."""

    def owners(self) -> dict[str, Pod]:
        """Return it."""
        return {"a": Pod("llm", "chat-1")}


class Bench:
    """A setter with a clock of its own."""

    def __init__(self) -> None:
        self.driver, self.now_s = Driver(), 100.0
        self.setter = Setter(self.driver, Kubelet(), Limits(FLOOR_MHZ, frozenset()), lambda: self.now_s)

    def ask(self, **asked: object) -> dict[str, object]:
        """Ask one line."""
        return self.setter.answer(json.dumps(asked).encode())

    def silence(self, seconds: float) -> None:
        """Let time pass with the watchdog looking every quarter of a second."""
        for _ in range(int(seconds * 4)):
            self.now_s += 0.25
            self.setter.watch()


HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers(), st.lists).map(
        lambda value: json.dumps(value).encode()
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "verb": st.sampled_from(["clock", "limit", "reset", "devices", "safe", "", None, 5]),
            "uuid": st.sampled_from(["a", "b", "c", "", None, 3]),
            "megahertz": st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.integers(200, 2000),
            "watts": st.none() | st.integers() | st.floats() | st.booleans() | st.integers(100, 800),
            "again": st.booleans() | st.none(),
        },
    ).map(lambda asked: json.dumps(asked).encode()),
)


@given(st.lists(HOSTILE, max_size=30))
@settings(max_examples=80)
def test_no_line_crashes_it_or_gets_past_the_admins_floor(lines: list[bytes]) -> None:
    """About 1,000 lines a run; every answer is an answer, and no board is told what the admin excludes."""
    bench = Bench()
    for line in lines:
        answer = bench.setter.answer(line)
        assert answer["ok"] is True or {"error", "message"} <= set(answer)
        json.dumps(answer)
    assert all(mhz is None or FLOOR_MHZ <= mhz <= 1e6 for mhz in bench.driver.clocks.values())
    assert all(watts is None or 0 < watts <= 1e6 for watts in bench.driver.limits.values())
    assert bench.driver.clocks.keys() | bench.driver.limits.keys() <= {"a", "b"}


@pytest.mark.parametrize(
    "line",
    [b"[" * 4000, b'{"verb":' * 500, b'{"verb":"clock","uuid":"a","megahertz":' + b"9" * 400 + b"}", b"\xff\xfe", b""],
    ids=["brackets", "nested objects", "a number of 400 digits", "no UTF-8", "nothing"],
)
def test_a_line_that_breaks_parsers_is_malformed(line: bytes) -> None:
    assert Bench().setter.answer(line)["error"] == "Malformed"


def test_clock_and_limit_of_a_gpu_may_be_loosened_in_the_same_second() -> None:
    """A release lifts both; the second of them must not wait and be reported as a failure."""
    bench = Bench()
    bench.ask(verb="clock", uuid="a", megahertz=1200)
    bench.ask(verb="limit", uuid="a", watts=400)
    assert bench.ask(verb="clock", uuid="a", megahertz=None)["ok"] is True
    assert bench.ask(verb="limit", uuid="a", watts=None)["ok"] is True
    bench.ask(verb="clock", uuid="a", megahertz=1200)
    assert bench.ask(verb="clock", uuid="a", megahertz=1500)["error"] == "RateLimited"
    bench.now_s += 1.1
    assert bench.ask(verb="clock", uuid="a", megahertz=1500)["ok"] is True


def test_the_answer_names_the_clock_in_force_even_when_nothing_was_written() -> None:
    bench = Bench()
    assert bench.ask(verb="clock", uuid="a", megahertz=345)["megahertz"] == FLOOR_MHZ
    assert bench.ask(verb="clock", uuid="a", megahertz=345) == {"ok": True, "suppressed": True, "megahertz": FLOOR_MHZ}


def test_a_limit_is_written_again_on_demand() -> None:
    bench = Bench()
    bench.ask(verb="limit", uuid="a", watts=400)
    bench.driver.limits.clear()
    bench.ask(verb="limit", uuid="a", watts=400)
    assert bench.driver.limits == {}
    bench.ask(verb="limit", uuid="a", watts=400, again=True)
    assert bench.driver.limits == {"a": 400}


def test_the_watchdog_goes_on_trying_a_gpu_that_refuses_and_spares_no_other() -> None:
    bench = Bench()
    bench.ask(verb="safe", megahertz=1110, watts=400)
    bench.driver.failing = {"a"}
    bench.silence(3.5)
    assert (bench.driver.clocks, bench.driver.limits) == ({"b": 1110}, {"b": 400})
    bench.driver.failing = set()
    bench.silence(1.5)
    assert bench.driver.clocks == {"a": 1110, "b": 1110}
    assert bench.driver.limits == {"a": 400, "b": 400}


def test_the_watchdog_never_loosens_what_is_tighter() -> None:
    bench = Bench()
    bench.ask(verb="safe", megahertz=1110, watts=400)
    bench.ask(verb="clock", uuid="a", megahertz=700)
    bench.ask(verb="limit", uuid="a", watts=300)
    bench.silence(4)
    assert (bench.driver.clocks["a"], bench.driver.limits["a"]) == (700, 300)


def test_any_line_of_the_agent_is_a_sign_of_life() -> None:
    bench = Bench()
    bench.ask(verb="safe", megahertz=1110, watts=400)
    for _ in range(4):
        bench.silence(2)
        bench.ask(verb="devices")
    assert bench.driver.clocks == {}
