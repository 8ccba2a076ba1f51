"""A row's watts as a file, for `capstan fit`: the row that was built, without caps, in the weeks that are scored.

Who calls it: `app.replay_kinds`, for `--save-trace`. Must not know: systems.
"""

from __future__ import annotations

from pathlib import Path

from capstan.replay.pages import report
from capstan.replay.row import experiment, generate, play, systems
from capstan.replay.row.experiment import Asked, Combination
from capstan.replay.runs import Floats


def watts(asked: Asked, combination: Combination, seed: int) -> Floats:
    """Return AC watts of every scored second."""
    levels = generate.level(seed, asked.derived_weeks + asked.scored_weeks)
    _, kind = experiment.fixed(asked, combination, seed, levels)
    from_s = asked.derived_weeks * generate.WEEK_S
    end_s = from_s + asked.scored_weeks * generate.WEEK_S
    row = play.Row(kind, asked.budget_w, asked.built, seed, levels, end_s, from_s)
    return play.play(row, systems.UNCAPPED).row_w[from_s:]


def write(row_w: Floats, path: Path) -> None:
    """Write `time_s,watts`, to a tenth of a watt.

    Raises:
        OSError: The file cannot be written; what was there before stays whole.
    """
    lines = (f"{second},{drawn:.1f}\n" for second, drawn in enumerate(row_w.tolist()))
    path.parent.mkdir(parents=True, exist_ok=True)
    report.replace(path, "time_s,watts\n" + "".join(lines))
