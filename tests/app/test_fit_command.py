"""`capstan fit`: the answer in a sentence, two files, and one sentence with exit code 2 for what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capstan.__main__ import cli
from capstan.replay.row import taped
from support import fits

DOMAIN = """\
apiVersion: capstan.dev/v1alpha1
kind: PowerDomain
metadata: {name: row-1}
spec:
  type: Row
  budgetWatts: 24000
  nonGPUWattsPerNode: {typical: 2600, worstCase: 3000}
  powerSupplyEfficiencyPercent: 94
"""
PROFILE = ("--profile", "bloom-a100-80gb-tp8")
QUICK = ("--clock-response", "nominal", "--correlated", "--to", "5")


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "watts.csv"
    taped.write(fits.day(16_500), path)
    return path


def fit(folder: Path, trace: Path, *arguments: str | Path, domain: str = DOMAIN) -> Result:
    (folder / "row.yaml").write_text(domain)
    given = ("--domain", folder / "row.yaml", "--trace", trace, "--servers", "4", *arguments)
    return CliRunner().invoke(cli, ["fit", *map(str, given)])


def test_it_says_how_many_fit_and_writes_both_files(tmp_path: Path, trace: Path) -> None:
    found = fit(tmp_path, trace, *PROFILE, *QUICK, "--out", tmp_path / "out", "--assert")
    assert found.exit_code == 0, found.output
    assert "more servers fit" in found.output
    document = json.loads((tmp_path / "out" / "fit.json").read_text())
    assert document["recommended_servers"] >= 4
    assert document["tried_servers"] == [4, 5]
    assert (tmp_path / "out" / "fit.html").read_text().startswith("<!doctype html>")


def test_a_row_that_does_not_even_hold_its_servers_is_exit_code_3(tmp_path: Path, trace: Path) -> None:
    poor = DOMAIN.replace("24000", "16000")
    found = fit(tmp_path, trace, *PROFILE, *QUICK, "--assert", domain=poor)
    assert found.exit_code == 3, found.output
    assert "Do not arm" in found.output
    assert fit(tmp_path, trace, *PROFILE, *QUICK, domain=poor).exit_code == 0, "without --assert it only says so"


@pytest.mark.parametrize(
    ("arguments", "domain", "says"),
    [
        ((), DOMAIN, "--profile: is needed"),
        (("--profile", "gpt-9"), DOMAIN, "gpt-9 is not known; give one of bloom"),
        ((*PROFILE, "--to", "3"), DOMAIN, "--to: 3 servers; give at least --servers"),
        ((*PROFILE, "--prompt-tokens", "5"), DOMAIN, "give both or none"),
        (
            (*PROFILE, "--prompt-tokens", "99999", "--output-tokens", "9"),
            DOMAIN,
            "give shorter --prompt-tokens, --output-tokens",
        ),
        (PROFILE, DOMAIN.replace("24000", "-1"), "spec.budgetWatts"),
        (PROFILE, "kind: Nonsense\n", "kind: 'Nonsense' is not known here"),
        (PROFILE, f"{DOMAIN}---\n{DOMAIN.replace('row-1', 'row-2')}", "needs one PowerDomain, has 2"),
        ((*PROFILE, "--servers", "40"), DOMAIN, "correct --servers, --gpus"),
    ],
    ids=["no profile", "profile", "to", "one length", "too long", "budget", "kind", "two domains", "servers"],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, trace: Path, arguments: tuple[str, ...], domain: str, says: str
) -> None:
    found = fit(tmp_path, trace, *arguments, domain=domain)
    assert found.exit_code == 2
    assert says in found.output
    assert "Traceback" not in found.output
