"""The fitted figures that ship with the package (fitted.json), written by `capstan profile fit`.

Who calls it: `calibrate.estimate`, which must work where shared/data is not. The file holds parameters and errors
alone, no measured row.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from importlib import resources

from capstan.calibrate.form import Level
from capstan.calibrate.parameters import Power

FILE = "fitted.json"
DIGITS = 5  # significant digits in the file: finer than any fit error, coarse enough to be equal on every machine


@dataclass(frozen=True, slots=True)
class LevelKey:
    """Whose level: an engine vintage, an LLM's published name, a GPU's name."""

    engine: str
    llm: str
    gpu: str


@dataclass(frozen=True, slots=True)
class Error:
    """Errors of one group, as ratios: mean absolute, mean signed, and the furthest; `rows` measured figures."""

    mape_ratio: float
    bias_ratio: float
    worst_ratio: float
    rows: int


@dataclass(frozen=True, slots=True)
class Span:
    """What was measured of one (engine, LLM, GPU, tp): lowest and highest batch, context and prompt; 0: nothing."""

    batch_min: int
    batch_max: int
    context_min: int
    context_max: int
    prompt_min: int
    prompt_max: int


SpanKey = tuple[str, str, str, int]
ErrorKey = tuple[str, str, str, int, str]


@dataclass(frozen=True, slots=True)
class Fitted:
    """All that a fit found.

    Attributes:
        times: Parameters of step times by name (`parameters.priors`).
        power: Draw by GPU name.
        levels: Factors of what was measured.
        errors: In-sample errors by (engine, LLM, GPU, tp, quantity). spans: what they cover, without the quantity.
    """

    times: dict[str, float]
    power: dict[str, Power]
    levels: dict[LevelKey, Level]
    errors: dict[ErrorKey, Error]
    spans: dict[SpanKey, Span]


SPAN_FIELDS = tuple(field.name for field in fields(Span))


def rounded(value: float) -> float:
    """Return `value` as the file holds it."""
    return float(f"{value:.{DIGITS}g}")


def dumps(fitted: Fitted) -> str:
    """Return the file's text: sorted, one entry a line."""
    document = {
        "generated": "by `capstan profile fit` from shared/data; do not edit",
        "times": {name: rounded(value) for name, value in sorted(fitted.times.items())},
        "power": {gpu: _numbers(asdict(power)) for gpu, power in sorted(fitted.power.items())},
        "levels": [
            {**asdict(key), **_numbers(asdict(level))}
            for key, level in sorted(fitted.levels.items(), key=lambda item: astuple_key(item[0]))
        ],
        "errors": [
            {
                "engine": key[0],
                "llm": key[1],
                "gpu": key[2],
                "tp": key[3],
                "quantity": key[4],
                **_numbers(asdict(error)),
            }
            for key, error in sorted(fitted.errors.items())
        ],
        "spans": [
            {"engine": key[0], "llm": key[1], "gpu": key[2], "tp": key[3], **asdict(span)}
            for key, span in sorted(fitted.spans.items())
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def astuple_key(key: LevelKey) -> tuple[str, str, str]:
    """Return the order of levels in the file."""
    return key.engine, key.llm, key.gpu


def _numbers(record: dict[str, float]) -> dict[str, float]:
    return {name: value if isinstance(value, int) else rounded(value) for name, value in record.items()}


def loads(text: str) -> Fitted:
    """Return what `dumps` wrote."""
    found = json.loads(text)
    keys = ("engine", "llm", "gpu")
    return Fitted(
        times=found["times"],
        power={gpu: Power(**values) for gpu, values in found["power"].items()},
        levels={
            LevelKey(*(entry[key] for key in keys)): Level(**{k: v for k, v in entry.items() if k not in keys})
            for entry in found["levels"]
        },
        errors={
            (entry["engine"], entry["llm"], entry["gpu"], entry["tp"], entry["quantity"]): Error(
                entry["mape_ratio"], entry["bias_ratio"], entry["worst_ratio"], entry["rows"]
            )
            for entry in found["errors"]
        },
        spans={
            (entry["engine"], entry["llm"], entry["gpu"], entry["tp"]): Span(
                **{name: entry[name] for name in SPAN_FIELDS}
            )
            for entry in found["spans"]
        },
    )


def shipped() -> Fitted:
    """Return the fit that ships with the package."""
    return loads(resources.files("capstan.calibrate").joinpath(FILE).read_text(encoding="utf-8"))
