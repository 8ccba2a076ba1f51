"""Builders for the tests of experiments: scores by hand, rows, and an experiment that is played in a second."""

from __future__ import annotations

from pathlib import Path

from capstan.replay.experiments.figures import CHANGE, ENERGY, GOOD, SAVING
from capstan.replay.experiments.kinds import Cell, Experiment, Figure, Goal, Row
from capstan.replay.options import Options
from capstan.replay.scores import score
from capstan.replay.scores.score import Score
from support import replay, small
from support.small import Folder

PROFILE = "llama-3.1-70b-h100-sxm5-80gb-tp4.yaml"
FIGURES = (ENERGY, SAVING, CHANGE, GOOD)
AS_IT_IS = Options(scale_rate="1", seeds=(1,))


def scored(energy_j: float, *, bad: int = 0, of: int = 1000) -> Score:
    """A run of `of` requests of which `bad` came too late: from 11 of 1,000 on the SLO of 99 % is missed."""
    fates = [replay.fate(float(at), ttft_s=9.0 if at < bad else 0.5) for at in range(of)]
    return score.of(replay.run(fates, energy_j=energy_j))


def cell(energy_j: float, *, bad: int = 0, single_j: float | None = None) -> Cell:
    """A row at one seed, beside single-pool where that is asked for."""
    return Cell(scored(energy_j, bad=bad), None if single_j is None else scored(single_j))


def experiment(
    *rows: Row, figures: tuple[Figure, ...] = FIGURES, goals: tuple[Goal, ...] = (), asked: Options = AS_IT_IS
) -> Experiment:
    """An experiment of these rows."""
    return Experiment("made-up", "What is it?", lambda _: rows, figures, asked=asked, goals=goals, notes=("A note.",))


def folder(path: Path, root: Path, *, requests: int = 300) -> Folder:
    """A scenario of some requests with its trace, and the one shipped profile that it needs."""
    (path / "profiles").mkdir()
    (path / "profiles" / PROFILE).write_text((root / "policies" / "profiles" / PROFILE).read_text())
    return small.folder(path, small.requests(requests))
