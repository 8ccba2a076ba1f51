"""How a scenario is to be played: the flags of `capstan replay`, each of which may stand in the `Run` document instead.

Who calls it: `app.replay` makes one, `replay.load` obeys it. A flag wins over the document.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from capstan.api import errors
from capstan.api import scenario as files
from capstan.model.classes import Edges
from capstan.model.policy import Objective
from capstan.model.profile import ClockResponse
from capstan.replay.classify import Classes, Given, Predictor, Source

POWER_SCALES = (0.5, 2.0)
"""`--power-scale` stands for fit errors and limiter gains of some percent; beyond this it is another GPU's profile."""

DEFAULT_PREDICTOR = "0.81"
"""Share of answers that DynamoLLM's predictor puts into the right one of three buckets."""

_NUMBER = re.compile(r"[0-9]{1,6}([.][0-9]{1,9})?")
_AUTO = re.compile(r"auto:([1-9][0-9]{0,4})")


def past(told: str | None) -> files.History | None:
    """Return the word for a history that is no file; None: it is one, or there is none."""
    return files.History(told) if told in tuple(files.History) else None


@dataclass(frozen=True, slots=True)
class Rate:
    """Rates as a multiple of the trace's; or, with `replicas`, as many as make that the smallest fixed fleet."""

    multiple: float = 1.0
    replicas: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that may be asked of a replay. None, and an empty tuple: not asked for, the scenario says."""

    trace: Path | None = None
    columns: str | None = None
    history: Path | files.History | None = None
    systems: tuple[str, ...] = ()
    scale_rate: str | None = None
    scale_time: float | None = None
    periods: str | None = None
    startup_s: int | None = None
    truth: Path | None = None
    slo: files.SloSet | None = None
    clock_response: ClockResponse | None = None
    seeds: tuple[int, ...] = ()
    servers: tuple[int, ...] = ()
    power_scale: float | None = None
    full: bool = False
    variant: str | None = None
    classes: str | None = None
    predictor: str | None = None
    price: Path | None = None
    carbon_intensity: Path | None = None
    gpu_hour_price: float | None = None
    objective: Objective | None = None
    strict: bool = False
    profiles: Path | None = None
    save_trace: Path | None = None

    def over(self, run: files.Run, folder: Path) -> Options:
        """Return these options with what is not asked for taken from a scenario's `Run`; its paths lie in `folder`.

        Raises:
            Invalid: A number that nothing can be played with.
        """

        def beside(told: str | None) -> Path | None:
            return None if told is None else folder / told

        merged = replace(
            self,
            history=self.history or past(run.history) or beside(run.history),
            systems=self.systems or run.systems,
            scale_rate=self.scale_rate or run.scale_rate,
            scale_time=float(run.scale_time) if self.scale_time is None else self.scale_time,
            periods=self.periods or run.periods,
            startup_s=run.startup_seconds if self.startup_s is None else self.startup_s,
            truth=self.truth or beside(run.truth),
            slo=self.slo or run.slo,
            clock_response=self.clock_response or run.clock_response,
            seeds=self.seeds or run.seeds or (run.seed,),
            servers=self.servers or run.servers,
            power_scale=float(run.power_scale) if self.power_scale is None else self.power_scale,
            variant=self.variant or run.variant,
            classes=self.classes or run.classes,
            predictor=self.predictor or run.predictor,
            price=self.price or beside(run.price),
            carbon_intensity=self.carbon_intensity or beside(run.carbon_intensity),
            gpu_hour_price=_number(run.gpu_hour_price) if self.gpu_hour_price is None else self.gpu_hour_price,
            objective=self.objective or run.objective,
            strict=self.strict or run.strict,
        )
        merged._check()
        return merged

    def _check(self) -> None:
        if self.scale_time is not None and not (math.isfinite(self.scale_time) and self.scale_time > 0):
            raise errors.Invalid("--scale-time", f"{self.scale_time:g} is no factor; write a number above 0")
        low, high = POWER_SCALES
        if self.power_scale is not None and not low <= self.power_scale <= high:  # so NaN is refused, too
            raise errors.Invalid("--power-scale", f"{self.power_scale:g} is not between {low:g} and {high:g}")
        rent = self.gpu_hour_price
        if rent is not None and not 0 <= rent < math.inf:
            raise errors.Invalid("--gpu-hour-price", f"{rent:g} is no rent; write what a GPU-hour costs, 0 or above")
        for flag, told in (("--seeds", self.seeds), ("--servers", self.servers)):
            if len(set(told)) != len(told):
                twice = next(number for number in told if told.count(number) > 1)
                raise errors.Invalid(flag, f"{twice} is there twice; write each number once")
        _ = self.edges, self.guess  # refused before a trace is read

    @property
    def rate(self) -> Rate:
        """What `--scale-rate` asks for.

        Raises:
            Invalid: It is neither a number above 0 nor `auto:N`.
        """
        text = self.scale_rate or "1"
        auto = _AUTO.fullmatch(text)
        if auto:
            return Rate(replicas=int(auto.group(1)))
        if not _NUMBER.fullmatch(text) or float(text) <= 0:
            raise errors.Invalid("--scale-rate", f"{text} is no rate; write a number above 0, or auto:12")
        return Rate(float(text))

    @property
    def edges(self) -> Classes | Edges:
        """What `--classes` asks for.

        Raises:
            Invalid: It is neither a word nor edges that make classes.
        """
        text = self.classes or Classes.FIXED
        if text in tuple(Classes):
            return Classes(text)
        fix = f"{text} is neither fixed, terciles nor edges in tokens; write prompt/output, such as 256,1024/100,350"
        if not re.fullmatch(files.CLASSES_PATTERN, text):
            raise errors.Invalid("--classes", fix)
        prompt, output = (tuple(map(int, side.split(","))) for side in text.split("/"))
        try:
            return Edges(prompt, output)
        except ValueError as problem:
            raise errors.Invalid("--classes", f"{text}: {problem}") from problem

    @property
    def guess(self) -> Predictor:
        """What `--predictor` asks for.

        Raises:
            Invalid: It is neither a word nor a share.
        """
        text = self.predictor or DEFAULT_PREDICTOR
        if not re.fullmatch(files.PREDICTOR_PATTERN, text):
            raise errors.Invalid("--predictor", f"{text} is no share of 0 to 1, live or none; write 0.81")
        return Given(float(text)) if text[0].isdigit() else Source(text)


def _number(told: str | None) -> float | None:
    return None if told is None else float(told)
