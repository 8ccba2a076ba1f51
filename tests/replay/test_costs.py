"""What a replay assumes of prices: flags before the document, sourced defaults, refusals, and words for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capstan.api import errors
from capstan.api import scenario as files
from capstan.api.system import System
from capstan.model.objective import Tariffs
from capstan.model.policy import Objective
from capstan.replay import configured, costs
from capstan.replay.options import Options
from capstan.replay.scores.tariff import TariffError
from capstan.units import JOULES_PER_KWH
from support import api, builders, small

JOULES, COST, CARBON = Objective


def run(**changes: Any) -> files.Run:
    return files.Run.model_validate(api.changed(small.RUN, changes))


def options(folder: Path, **asked: Any) -> Options:
    """Options after a document that says nothing."""
    return Options(**asked).over(run(), folder)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.csv"
    path.write_text("start_s,g_per_kwh\n0,400\n")
    return path


def test_without_a_word_there_is_a_rent_and_an_embodied_share_but_no_electricity(tmp_path: Path) -> None:
    """11.06 dollars an hour; 164 + 5,700 / 8 = 876.5 kg over 43,800 h = 20.01 g an hour."""
    found = costs.of(options(tmp_path), run())
    assert (found.price, found.intensity) == (None, None)
    assert found.rent_per_gpu_s == pytest.approx(11.06 / 3600)
    assert found.embodied_g_per_gpu_s == pytest.approx(20.0114 / 3600, rel=1e-5)


def test_what_the_document_says_of_servers_is_taken(tmp_path: Path) -> None:
    """500 kg over 4 years of 8,760 h: 14.27 g an hour."""
    asked = run(embodiedKilogramsPerGpu="500", gpuLifetimeYears="4", gpuHourPrice="2.5")
    found = costs.of(Options().over(asked, tmp_path), asked)
    assert found.embodied_g_per_gpu_s == pytest.approx(500_000 / (4 * 8760 * 3600))
    assert found.rent_per_gpu_s == pytest.approx(2.5 / 3600)


def test_files_are_read_in_the_units_of_the_core(tmp_path: Path, grid: Path) -> None:
    price = tmp_path / "price.csv"
    price.write_text("start_s,price_per_kwh\n0,0.08\n")
    found = costs.of(options(tmp_path, price=price, carbon_intensity=grid), run())
    assert found.price is not None
    assert found.intensity is not None
    assert (found.price.at(0) * JOULES_PER_KWH, found.intensity.at(9) * JOULES_PER_KWH) == pytest.approx((0.08, 400))


def test_a_lifetime_of_nothing_is_refused(tmp_path: Path) -> None:
    asked = run(gpuLifetimeYears="0")
    with pytest.raises(errors.Invalid, match="gpuLifetimeYears: 0 is no lifetime; write a number above 0"):
        costs.of(Options().over(asked, tmp_path), asked)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TariffError, match=r"none\.csv, file"):
        costs.of(options(tmp_path, carbon_intensity=tmp_path / "none.csv"), run())


# --- whose objective ---------------------------------------------------------------------------------

RENTED = Tariffs(rent_per_gpu_s=1.0)


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [(JOULES, None, JOULES), (COST, None, COST), (COST, JOULES, JOULES), (JOULES, COST, COST)],
    ids=["joules by default", "the policy's own", "the flag wins, back to joules", "the flag wins"],
)
def test_the_flag_wins_over_the_policy(
    tmp_path: Path, own: Objective, asked: Objective | None, expected: Objective
) -> None:
    policy = builders.policy(objective=own)
    assert costs.aimed(policy, options(tmp_path, objective=asked), RENTED).objective is expected


@pytest.mark.parametrize(
    ("own", "asked", "says"),
    [(JOULES, CARBON, "--objective: Carbon needs"), (CARBON, None, "llm/chat, spec.objective: Carbon needs")],
    ids=["by flag", "by the policy"],
)
def test_carbon_without_an_intensity_is_refused_and_says_what_to_give(
    tmp_path: Path, own: Objective, asked: Objective | None, says: str
) -> None:
    with pytest.raises(errors.Invalid, match=f"{says} .*--carbon-intensity FILE"):
        costs.aimed(builders.policy(objective=own), options(tmp_path, objective=asked), RENTED)


def test_a_system_of_a_settings_file_may_have_an_objective_of_its_own() -> None:
    made = System.model_validate(
        {"kind": "System", "name": "least-cost", "words": "money", "objective": "Cost"},
    )
    silent = made.model_copy(update={"objective": None})
    policy = builders.policy(objective=CARBON)
    assert [configured.set_up(policy, system).objective for system in (made, silent)] == [COST, CARBON]


# --- in words ----------------------------------------------------------------------------------------


def told(
    folder: Path, asked: Options, kinds: tuple[Objective, ...], document: files.Run | None = None
) -> dict[str, str]:
    document = document or run()
    return dict(costs.notes(asked, document, costs.of(asked, document), kinds))


def test_what_was_not_given_is_said(tmp_path: Path) -> None:
    found = told(tmp_path, options(tmp_path), (JOULES, JOULES))
    assert found == {
        "objective": "Joules",
        "GPU rent": "11.06 a GPU-hour (US dollars, from DynamoLLM's figures)",
        "price of electricity": "not given",
        "carbon intensity": "not given",
    }


def test_assumptions_are_named_with_their_source(tmp_path: Path, grid: Path) -> None:
    asked = options(tmp_path, carbon_intensity=grid, gpu_hour_price=2.0)
    found = told(tmp_path, asked, (JOULES, CARBON))
    assert found["objective"] == "Joules, Carbon; fixed fleets, oracle and bound are the least in joules"
    assert (found["GPU rent"], found["carbon intensity"]) == ("2 a GPU-hour (as told)", "grid.csv")
    assert found["embodied carbon"].startswith(
        "20 g a GPU-hour (876.5 kg a GPU with its share of the server over 5 years"
    )
    own = run(embodiedKilogramsPerGpu="500")
    assert told(tmp_path, asked, (CARBON,), own)["embodied carbon"] == "11.4 g a GPU-hour (as told)"
