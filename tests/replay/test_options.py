"""Flags and the `Run` document that they may stand in: a flag wins, paths of the document lie beside it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from capstan.api import errors
from capstan.api import scenario as files
from capstan.model.classes import Edges
from capstan.model.policy import Objective
from capstan.model.profile import ClockResponse
from capstan.replay.classify import Classes, Given, Predictor, Source
from capstan.replay.options import Options, Rate
from support import api, small

FOLDER = Path("/scenarios")
DOCUMENT = {
    "history": "before.csv",
    "systems": ["oracle", "bound"],
    "scaleRate": "auto:7",
    "scaleTime": "0.5",
    "periods": "90,60,15",
    "startupSeconds": 45,
    "truth": "truth.yaml",
    "slo": "class",
    "clockResponse": "low",
    "seeds": [4, 5],
    "servers": [6],
    "powerScale": "1.1",
    "variant": "fp8",
    "classes": "terciles",
    "predictor": "live",
    "price": "price.csv",
    "carbonIntensity": "carbon.csv",
    "gpuHourPrice": "2.5",
    "objective": "Carbon",
    "strict": True,
}
OF_DOCUMENT = {
    "history": FOLDER / "before.csv",
    "systems": ("oracle", "bound"),
    "scale_rate": "auto:7",
    "scale_time": 0.5,
    "periods": "90,60,15",
    "startup_s": 45,
    "truth": FOLDER / "truth.yaml",
    "slo": files.SloSet.CLASS,
    "clock_response": ClockResponse.LOW,
    "seeds": (4, 5),
    "servers": (6,),
    "power_scale": 1.1,
    "variant": "fp8",
    "classes": "terciles",
    "predictor": "live",
    "price": FOLDER / "price.csv",
    "carbon_intensity": FOLDER / "carbon.csv",
    "gpu_hour_price": 2.5,
    "objective": Objective.CARBON,
    "strict": True,
}
FLAGS = {
    "history": Path("mine.csv"),
    "systems": ("capstan",),
    "scale_rate": "2.5",
    "scale_time": 2.0,
    "periods": "120,60,5",
    "startup_s": 0,
    "truth": Path("mine.yaml"),
    "slo": files.SloSet.SCENARIO,
    "clock_response": ClockResponse.HIGH,
    "seeds": (9,),
    "servers": (2, 3),
    "power_scale": 1.0,
    "variant": "cheapest",
    "classes": "fixed",
    "predictor": "none",
    "price": Path("mine.csv"),
    "carbon_intensity": Path("mine.csv"),
    "gpu_hour_price": 0.0,
    "objective": Objective.COST,
}


def run(**changes: object) -> files.Run:
    return files.Run.model_validate(api.changed(small.RUN, changes))


def test_what_is_not_asked_for_is_taken_from_the_document_with_its_paths_beside_it() -> None:
    merged = Options().over(run(**DOCUMENT), FOLDER)
    assert {name: getattr(merged, name) for name in OF_DOCUMENT} == OF_DOCUMENT


def test_every_field_of_the_contract_is_in_this_table() -> None:
    own = {"trace", "columns", "profiles"}  # they replace the document's traces and the shipped profiles
    own |= {"full", "save_trace"}  # asked of a Row, whose document is another
    assert set(OF_DOCUMENT) | own == {field.name for field in dataclasses.fields(Options)}
    assert set(FLAGS) | {"strict"} == set(OF_DOCUMENT)


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_wins_over_the_document(name: str) -> None:
    merged = Options(**{name: FLAGS[name]}).over(run(**DOCUMENT), FOLDER)  # type: ignore[arg-type]  # a table
    assert getattr(merged, name) == FLAGS[name] != OF_DOCUMENT[name]
    others = set(OF_DOCUMENT) - {name}
    assert {other: getattr(merged, other) for other in others} == {other: OF_DOCUMENT[other] for other in others}


def test_with_neither_the_seed_of_the_trace_and_the_trace_as_it_is() -> None:
    merged = Options().over(run(seed=3), FOLDER)
    assert (merged.seeds, merged.rate, merged.scale_time, merged.power_scale) == ((3,), Rate(1.0), 1.0, 1.0)
    assert (merged.history, merged.truth, merged.price, merged.strict) == (None, None, None, False)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("2", Rate(2.0)), ("0.25", Rate(0.25)), ("auto:12", Rate(replicas=12)), (None, Rate(1.0))],
)
def test_a_rate_is_a_multiple_or_a_fleet(text: str | None, rate: Rate) -> None:
    assert Options(scale_rate=text).rate == rate


@pytest.mark.parametrize("text", ["0", "0.0", "-2", "1e3", "inf", "nan", "auto:0", "auto:-1", "auto:x", "2x", " 2"])
def test_any_other_rate_is_refused(text: str) -> None:
    with pytest.raises(errors.Invalid, match=r"--scale-rate: .*write a number above 0, or auto:12"):
        _ = Options(scale_rate=text).rate


@pytest.mark.parametrize(
    ("text", "edges"),
    [
        (None, Classes.FIXED),
        ("fixed", Classes.FIXED),
        ("terciles", Classes.TERCILES),
        ("256,1024/100,350", Edges()),
        ("9/3", Edges((9,), (3,))),
    ],
)
def test_edges_are_a_word_or_tokens(text: str | None, edges: Classes | Edges) -> None:
    assert Options(classes=text).edges == edges


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        (None, Given(0.81)),
        ("0.6", Given(0.6)),
        ("1", Given(1.0)),
        ("0", Given(0.0)),
        ("live", Source.LIVE),
        ("none", Source.NONE),
    ],
)
def test_a_predictor_is_a_word_or_a_share(text: str | None, guess: Predictor) -> None:
    assert Options(predictor=text).guess == guess


def test_the_document_and_the_flag_have_the_same_default() -> None:
    assert Options().over(run(), FOLDER).guess == Options().guess


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Options(scale_time=math.nan), "--scale-time"),
        (Options(scale_time=0.0), "--scale-time"),
        (Options(power_scale=math.nan), "--power-scale"),
        (Options(power_scale=2.01), "--power-scale"),
        (Options(gpu_hour_price=-1.0), "--gpu-hour-price: -1 is no rent"),
        (Options(gpu_hour_price=math.nan), "--gpu-hour-price"),
        (Options(seeds=(1, 2, 1)), "--seeds: 1 is there twice"),
        (Options(servers=(4, 4)), "--servers: 4 is there twice"),
        (Options(classes="thirds"), "--classes: thirds is neither fixed, terciles nor edges"),
        (Options(classes="9,5/3"), "--classes: 9,5/3: class edges must ascend"),
        (Options(classes="1/3"), "--classes: 1/3: .*from 2 tokens on"),
        (Options(predictor="81"), "--predictor: 81 is no share of 0 to 1"),
        (Options(predictor="1.5"), "--predictor: 1.5 is no share"),
        (Options(predictor="oracle"), "--predictor: oracle is no share"),
    ],
    ids=[
        "no time",
        "time stands still",
        "no watts",
        "another machine's watts",
        "a rent below 0",
        "no rent",
        "a seed twice",
        "a fleet twice",
        "no such edges",
        "edges that fall",
        "an edge with nobody below",
        "percent",
        "above one",
        "no such predictor",
    ],
)
def test_a_number_that_nothing_can_be_played_with_is_refused(wrong: Options, says: str) -> None:
    with pytest.raises(errors.Invalid, match=says):
        wrong.over(run(), FOLDER)
