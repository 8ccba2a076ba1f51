"""The scenario kind `Plant`: an hour of servers under power domains, on true watts, with faults (DESIGN 7.2).

Who calls it: `manifests`, for `capstan replay`. Machines are the file's `Fleet`, budgets its `PowerDomain`s; the
strategies are played one after the other on the same load. These documents never reach an API server.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, Strict

from capstan.api import fields
from capstan.api.schema import Spec, rule
from capstan.model.profile import ClockResponse

Share = Annotated[int, Strict(), Field(ge=0, le=100)]
Lag = Annotated[int, Strict(), Field(ge=0, le=60)]
Moment = Annotated[int, Strict(), Field(ge=1, le=86_400)]


class Surge(Spec):
    """The rate of requests is this multiple for a while."""

    at_seconds: Moment
    for_seconds: fields.Seconds
    factor: fields.Parameter


class Load(Spec):
    """Requests of each server: Poisson arrivals with the published lengths of conversations."""

    start_per_second: fields.Parameter
    """Requests a second of one server when the run begins."""
    end_per_second: fields.Parameter
    """And from the end of the ramp on."""
    ramp_seconds: fields.Seconds
    surges: Annotated[tuple[Surge, ...], Field(max_length=100)] = ()
    patience_seconds: fields.Seconds = 10
    """A request that would wait longer for its prefill is refused (429)."""


class Supply(Spec):
    """A server's power supplies and all that is not a board."""

    rated_watts: fields.Watts
    """DC watts of all supplies of one server."""
    efficiency_percent: Annotated[tuple[tuple[Share, fields.Percent], ...], Field(min_length=2, max_length=16)]
    """Pairs of load (percent of the rating) and efficiency (percent), ascending; the plant goes on lines between."""
    non_gpu_idle_watts: Annotated[fields.Watts, Field(alias="nonGPUIdleWatts")]
    """DC watts of one server without its boards' when they idle."""
    non_gpu_full_watts: Annotated[fields.Watts, Field(alias="nonGPUFullWatts")]
    """And when all of them draw their largest limit; never more."""
    non_gpu_settle_milliseconds: Annotated[fields.Milliseconds, Field(alias="nonGPUSettleMilliseconds")]
    """How fast they follow the boards."""

    @rule(field="efficiencyPercent", fix="loads ascend from 0 to 100; write the first pair with 0, the last with 100")
    def _spans(self) -> bool:
        loads = [load for load, _ in self.efficiency_percent]
        return loads[0] == 0 and loads[-1] == 100 and all(a < b for a, b in pairwise(loads))

    @rule(field="nonGPUIdleWatts", fix="must not be above nonGPUFullWatts; lower it")
    def _order(self) -> bool:
        return self.non_gpu_idle_watts <= self.non_gpu_full_watts


class Boards(Spec):
    """How boards differ from their data sheet."""

    gain_error_percent: Share = 5
    """A board's sensor is off by a share drawn evenly from minus to plus this, for limiter and telemetry alike."""
    loop_milliseconds: tuple[fields.Milliseconds, fields.Milliseconds] = (25, 100)
    """Shortest and longest time constant of a limiter's inner loop; each board has one between."""
    release_milliseconds: fields.Milliseconds = 1000
    """Time in which a limiter gives a clock back."""
    ripple_per_mille: Annotated[int, Strict(), Field(ge=0, le=100)] = 13
    """Standard deviation of a replica's watts from slice to slice."""
    stuck_per_mille: Annotated[int, Strict(), Field(ge=0, le=1000)] = 10
    """Boards that accept a clock lock and run on."""

    @rule(field="loopMilliseconds", fix="the first is the shortest, at least 25; write such as [25, 100]")
    def _loops(self) -> bool:
        shortest, longest = self.loop_milliseconds
        return 25 <= shortest <= longest


class Actuation(Spec):
    """From a command to the boards' effect."""

    median_milliseconds: fields.Milliseconds = 100
    p99_milliseconds: fields.Milliseconds = 1000
    longest_milliseconds: fields.Milliseconds = 4000
    failure_percent: Share = 1
    """Of the attempts; the agent tries again a second later."""
    lease_seconds: fields.Seconds = 4
    """An agent that its controller does not call for so long takes the safe setting (strategy Statistical)."""

    @rule(field="medianMilliseconds", fix="needs median <= p99 <= longest; correct the order")
    def _order(self) -> bool:
        return self.median_milliseconds <= self.p99_milliseconds <= self.longest_milliseconds


class Blackout(Spec):
    """Nobody is heard for a while."""

    at_seconds: Moment
    for_seconds: fields.Seconds
    commands_too: fields.Flag = False
    """Nothing reaches the agents either."""


class Faults(Spec):
    """What goes wrong in one variant of the run."""

    name: fields.Name
    sensor_error_percent: Share = 0
    """Every board's sensor reads this much low, limiter and telemetry alike, instead of each its own."""
    lag_seconds: Lag = 0
    lost_percent: Share = 0
    """Samples that do not arrive, each by itself."""
    blackout: Blackout | None = None


class PowerStep(Spec):
    """A budget cut of all domains at full load, at many seeds: how long until the draw is below the new budget."""

    cut_percent: Annotated[int, Strict(), Field(ge=1, le=90)] = 20
    before_per_second: fields.Parameter
    """Requests a second of one server until full load comes."""
    per_second: fields.Parameter
    """And from then on: full load."""
    full_before_milliseconds: fields.Milliseconds = 1000
    """How long before the cut full load comes. Within about a second of it nobody is capped yet; later the draw at the
    cut is what a strategy holds."""
    at_seconds: Moment
    """Each seed cuts within the second that follows."""
    for_seconds: fields.Seconds
    """How long the run goes on."""
    seeds: Annotated[int, Strict(), Field(ge=1, le=10_000)]
    variants: Annotated[tuple[Faults, ...], Field(min_length=1, max_length=16)]

    @rule(field="beforePerSecond", fix="write a rate above 0 and at most perSecond")
    def _fuller(self) -> bool:
        return 0 < float(self.before_per_second) <= float(self.per_second)

    @rule(field="fullBeforeMilliseconds", fix="must begin within the run; write less than atSeconds")
    def _within(self) -> bool:
        return self.full_before_milliseconds < self.at_seconds * 1000


class Meter(Spec):
    """The domains' own meters."""

    period_seconds: fields.Seconds = 10
    delay_seconds: Lag = 2


class Plant(Spec):
    """A run of the plant."""

    api_version: Literal["replay.capstan.dev/v1alpha1"] = "replay.capstan.dev/v1alpha1"
    kind: Literal["Plant"]
    name: fields.Name
    profile: fields.Name
    """A shipped ServingProfile, or one of this file; a server is one replica of it."""
    clock_response: ClockResponse = ClockResponse.NOMINAL
    duration_seconds: Annotated[int, Strict(), Field(ge=10, le=86_400)] = 3600
    seeds: Annotated[tuple[fields.Count, ...], Field(min_length=1, max_length=100)] = (1,)
    high_percent: Share = 50
    """Servers with High priority, spread evenly."""
    load: Load
    supply: Supply
    boards: Boards = Boards()
    actuation: Actuation = Actuation()
    meter: Meter = Meter()
    variants: Annotated[tuple[Faults, ...], Field(min_length=1, max_length=32)]
    power_step: PowerStep | None = None

    @rule(field="variants", fix="two have one name; rename one")
    def _names_differ(self) -> bool:
        lists = (self.variants, self.power_step.variants if self.power_step else ())
        return all(len({each.name for each in listed}) == len(listed) for listed in lists)
