"""`capstan experiment` at its edges: one sentence with exit code 2, or a table, a page and a JSON that agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capstan.__main__ import cli
from capstan.replay.experiments import catalog
from capstan.replay.runs import Run
from capstan.replay.seen import Want
from capstan.replay.stage import Stage
from capstan.replay.systems import Fixed
from support import experiments
from support.small import Folder


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Folder:
    """A scenario with its trace, and the one shipped profile that it needs."""
    return experiments.folder(tmp_path, root, requests=100)


def played(folder: Folder, name: str, *flags: str | Path) -> Result:
    where = ("--scenario", folder.path / "scenario.yaml", "--profiles", folder.path / "profiles", "--out", folder.out)
    arguments = ["experiment", name, *where, "--scale-rate", "1", "--slo", "scenario", *flags]
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), "no traceback"
    assert result.output.startswith("capstan experiment: ")
    assert result.output.count("\n") == 1, "one line"
    return result.output


def test_the_list_has_every_experiment_with_its_question() -> None:
    found = CliRunner().invoke(cli, ["experiment", "list"])
    assert found.exit_code == 0
    for experiment in catalog.EXPERIMENTS:
        assert f"{experiment.name} " in found.output
        assert experiment.words in found.output
    assert "forecast " in found.output
    assert "predictions " in found.output


def test_an_experiment_prints_a_table_and_leaves_a_page_and_a_json(folder: Folder) -> None:
    found = played(folder, "margin", "--periods", "60,30,5", "--seeds", "1")
    assert found.exit_code == 0, found.output
    assert sorted(path.name for path in folder.out.iterdir()) == ["experiment.html", "experiment.json", "experiment.md"]
    document = json.loads((folder.out / "experiment.json").read_text())
    labels = [row["label"] for row in document["rows"]]
    assert labels == ["margin 0.6", "margin 0.7", "margin 0.8", "margin 0.9", "margin 1"]
    page, markdown = ((folder.out / f"experiment.{kind}").read_text() for kind in ("html", "md"))
    for label in labels:
        assert label in found.output
        assert label in page
        assert f"| {label} |" in markdown
    assert "5 runs in " in found.output


def test_the_same_experiment_gives_the_same_bytes(folder: Folder) -> None:
    written = []
    for _ in range(2):
        assert played(folder, "startup", "--quick", "--periods", "60,30,5").exit_code == 0
        written.append((folder.out / "experiment.json").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--assert",), 3)])
def test_a_missed_goal_is_an_exit_code_only_with_assert(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], code: int
) -> None:
    """A goal that no system reaches: 1 J for everything."""
    from capstan.replay.experiments.figures import ENERGY
    from capstan.replay.experiments.kinds import Goal, Row

    asked = experiments.experiment(
        Row("fixed", "fixed"), goals=(Goal("next to nothing", ENERGY, most=1.0, row="fixed"),)
    )
    monkeypatch.setitem(catalog.BY_NAME, "made-up", asked)
    found = played(folder, "made-up", *flags)
    assert found.exit_code == code, found.output
    assert "next to nothing: " in found.output
    assert found.output.count("missed.") == 1


def test_a_system_below_the_oracle_is_an_exit_code_of_its_own(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search gone wrong: it finds four replicas, where the fleet beside it does with one."""
    from capstan.replay.experiments.figures import ENERGY
    from capstan.replay.experiments.kinds import Row

    def four(stage: Stage, *_: object) -> Run:
        return stage.play(Fixed("oracle", [Want("llm/chat", 4, 4)]))

    asked = experiments.experiment(Row("fixed", "fixed"), figures=(ENERGY,))
    monkeypatch.setitem(catalog.BY_NAME, "made-up", asked)
    monkeypatch.setattr(Stage, "oracle", four)
    found = played(folder, "made-up", "--oracle")
    assert found.exit_code == 4, found.output
    assert "honesty check failed: fixed meets the SLO with" in found.output
    document = json.loads((folder.out / "experiment.json").read_text())
    assert len(document["faults"]) == 1
    assert [row["label"] for row in document["rows"]] == ["fixed", "oracle"]


def test_predictions_leave_every_plan_that_counted_in_the_json(folder: Folder) -> None:
    found = played(folder, "predictions", "--periods", "60,30,5", "--seeds", "1")
    assert found.exit_code == 0, found.output
    assert "TTFT: no plan stood long enough to be judged." in found.output, "100 requests say nothing"
    assert json.loads((folder.out / "experiment.json").read_text())["plans"] == []


REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "an experiment that nobody made": (("magic",), ("NAME: there is no experiment magic", "systems, ablation")),
    "rivals that are not there": (("contention",), ("--scenario", "one policy")),
    "events that are not there": (("shock",), ("--scenario", "no events")),
    "variants that are not there": (("variants",), ("--scenario", "no variants")),
    "statistics that are not there": (("forecast",), ("--scenario", "a file of its own")),
    "an oracle of different worlds": (("margin", "--oracle"), ("--oracle", "different worlds", "systems")),
    "an oracle of a forecast": (("forecast", "--oracle"), ("--oracle", "compares no systems", "systems")),
    "an oracle of predictions": (("predictions", "--oracle"), ("--oracle", "compares no systems")),
    "seeds in words": (("margin", "--seeds", "one"), ("--seeds one", "1,2,3")),
    "a seed twice": (("margin", "--seeds", "3,1,3"), ("--seeds", "3 is there twice")),
    "a rate in words": (("margin", "--scale-rate", "much"), ("--scale-rate", "much", "auto:12")),
    "periods in the wrong order": (("margin", "--periods", "5,60,300"), ("--periods", "instance the shortest")),
    "a tariff that is not there": (("objectives", "--carbon-intensity", "nowhere.csv"), ("nowhere.csv", "No such")),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_played_is_one_sentence(folder: Folder, flags: tuple[str, ...], says: tuple[str, ...]) -> None:
    output = refused(played(folder, *flags))
    for word in says:
        assert word in output, output
    assert not folder.out.is_dir() or list(folder.out.iterdir()) == [], "nothing half-written"


def test_a_folder_is_asked_for(folder: Folder) -> None:
    arguments = ["experiment", "margin", "--scenario", str(folder.path / "scenario.yaml")]
    assert "--out: say where" in refused(CliRunner().invoke(cli, arguments))


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_played(folder: Folder) -> None:
    out = folder.write("file", "") / "out"
    arguments = ["experiment", "systems", "--out", str(out)]
    assert f"--out {out}: Not a directory" in refused(CliRunner().invoke(cli, arguments))
