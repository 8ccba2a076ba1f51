"""`capstan study`: what people see, what is written, and one sentence with exit code 2 for what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capstan.__main__ import cli
from capstan.api.errors import Invalid
from capstan.app import study
from capstan.model.slo import Slo

QUICK = ("--profile", "llama-3.1-70b-h100-sxm5-80gb-tp4", "--clock-response", "nominal", "--classes", "1024/350")


def capstan(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["study", *map(str, arguments)])


def test_it_prints_tables_and_findings_and_writes_three_files(tmp_path: Path) -> None:
    found = capstan(*QUICK, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    for says in (
        "Least energy inside the SLO",
        "by load",
        "U-shaped",
        "Not judged",
        "statements of the papers",
        "report:",
    ):
        assert says in found.output, says
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["study.csv", "study.html", "study.json"]


def test_without_out_it_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = capstan(*QUICK, "--markdown")
    assert found.exit_code == 0, found.output
    assert found.output.startswith("| the papers say (status) | verdict |")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--profile", "gpt"), "--profile: gpt is neither a file nor one of these"),
        (("--profile", "{root}/policies/power-rack.yaml"), "holds no ServingProfile"),
        (("--profile", "{root}/README.md"), "correct the YAML"),
        (("--profiles", "{root}/nowhere"), "--profiles: "),
        (("--slo", "fast"), "--slo: fast is neither class, chat nor limits"),
        (("--slo", "ttft=200"), "--slo: "),
        (("--slo", "ttft=200,tpot=abc"), "--slo: "),
        (("--slo", "ttft=nan,tpot=100"), "--slo: "),
        (("--slo", "ttft=1e999,tpot=100"), "--slo: "),
        (("--slo", "ttft=-1,tpot=100"), "--slo: "),
        (("--slo", "ttft=200,tpot=100,percentile=100"), "--slo: "),
        (("--slo", "ttft=200,tpot=100,burst=3"), "--slo: "),
        (("--classes", "three"), "--classes: "),
        (("--classes", "9,5/7"), "--classes: "),
        (("--margin", "0"), "--margin"),
        (("--margin", "nan"), "--margin"),
        (("--lengths", "novel"), "--lengths"),
        (("--out", "{root}/README.md/x"), "--out"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_input_is_one_sentence_that_names_the_flag(arguments: tuple[str, ...], names: str, root: Path) -> None:
    found = capstan(*(argument.format(root=root) for argument in arguments))
    assert found.exit_code == 2, found.output
    assert names in found.output
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("chat", Slo(2.0, 0.1)),
        ("class", Slo(2.0, 0.1, 0.99, ((256, 0.25), (1024, 0.4)))),
        ("ttft=500,tpot=40", Slo(0.5, 0.04)),
        ("ttft=500, tpot=40, percentile=95", Slo(0.5, 0.04, 0.95)),
    ],
    ids=["chat", "class", "limits", "limits at p95"],
)
def test_limits_are_a_set_or_milliseconds(text: str, slo: Slo) -> None:
    assert study.limits_of(text)[0] == slo


def test_a_family_is_all_tps_of_one_llm_on_one_gpu(root: Path) -> None:
    folder = root / "policies" / "profiles"
    assert [p.tp for p in study.family(study.DEFAULT_FAMILY, folder)] == [2, 4, 8]
    assert [p.tp for p in study.family(f"{study.DEFAULT_FAMILY}-tp4", folder)] == [4]
    file = folder / f"{study.DEFAULT_FAMILY}-tp8.yaml"
    assert [p.tp for p in study.family(str(file), folder)] == [8]


def test_profiles_of_two_llms_are_no_family(root: Path, tmp_path: Path) -> None:
    folder = root / "policies" / "profiles"
    names = ("llama-3.1-70b-h100-sxm5-80gb-tp4", "llama-3.1-8b-h100-sxm5-80gb-tp2")
    both = tmp_path / "both.yaml"
    both.write_text("\n---\n".join((folder / f"{name}.yaml").read_text() for name in names))
    with pytest.raises(Invalid, match="one LLM on one GPU"):
        study.family(str(both), folder)
