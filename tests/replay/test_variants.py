"""The shipped variants from the file to physics: which one serves, and every way of asking for one that cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from capstan.api import errors
from capstan.model.variant import DERIVED
from capstan.replay import load, variants
from capstan.replay.load import Loaded
from capstan.replay.options import Options

Changed = Callable[..., Loaded]
KEY = "llm/conversation"


@pytest.fixture
def changed(tmp_path: Path, root: Path) -> Changed:
    """Read the shipped scenario's first minutes, with fields of its variants changed and one asked for."""
    documents = list(yaml.safe_load_all((root / "policies" / "scenarios" / "variants.yaml").read_text()))
    (run,) = (document for document in documents if document["kind"] == "Run")
    run |= {"durationSeconds": 300, "history": None}
    run["traces"][0] |= {"source": "synthetic:conv"}
    run["traces"][0].pop("repeat")

    def read(asked: str | None, **fields: object) -> Loaded:
        run["variants"][0] |= fields
        path = tmp_path / "variants.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        return load.read(path, Options(profiles=root / "policies" / "profiles", variant=asked))

    return read


def test_without_a_word_the_policys_own_model_serves(changed: Changed) -> None:
    made = changed(None).scenario()
    assert {profile.name for profile in made.profiles} == {f"llama-3.1-70b-h100-sxm5-80gb-tp{tp}" for tp in (2, 4, 8)}
    assert "variant" not in dict(made.notes)


@pytest.mark.parametrize("name", ["draft-3", "fp8"])
def test_a_variant_that_is_asked_for_serves_believed_and_true(changed: Changed, name: str) -> None:
    made = changed(name).scenario()
    assert all(profile.name.endswith(f"-{name}") and DERIVED in profile.provenance for profile in made.profiles)
    assert made.truths[0] == made.services[0].profiles
    assert dict(made.notes)["variant"] == name


def test_a_smaller_llm_serves_under_the_policys_name_where_its_quality_is_enough(changed: Changed) -> None:
    (service,) = changed("small", minQuality="0.6").scenario().services
    assert all(profile.name.startswith("llama-3.1-8b") for profile in service.profiles)
    assert all(service.policy.llm in profile.models for profile in service.profiles)


@pytest.mark.parametrize(
    ("bar", "name"), [("0.82", "fp8"), ("0.835", "draft-3"), ("0.5", "small")], ids=["shipped", "high", "low"]
)
def test_the_cheapest_is_the_least_watts_that_are_good_enough(changed: Changed, bar: str, name: str) -> None:
    loaded = changed("cheapest", minQuality=bar)
    (service,) = loaded.scenario().services
    spec = variants.of(loaded.run, KEY)
    assert spec is not None
    offered = variants.offered(spec, service.policy, loaded.profiles, loaded.scenario().nodes)
    chosen = variants.cheapest(offered, service.policy, service.requests, gpus=96)
    assert chosen is not None
    assert chosen.variant.name == name
    assert chosen.variant.quality_ratio >= float(bar)


@pytest.mark.parametrize(
    ("asked", "fields", "says"),
    [
        pytest.param("small", {}, "small has a quality of 0.694, below the 0.82", id="not good enough"),
        pytest.param("tiny", {}, "has no variant tiny; write one of plain, draft-3, fp8, small", id="no such name"),
        pytest.param(
            "cheapest", {"minQuality": "0.9"}, "of those with a quality of 0.9 .the best has 0.836.", id="none"
        ),
        pytest.param("fp8", {"minQuality": "1.2"}, r"variants\[0\].minQuality", id="no share"),
        pytest.param("fp8", {"policy": "llm/other"}, "variants: each names another policy", id="for nobody"),
    ],
)
def test_what_cannot_serve_is_refused(changed: Changed, asked: str, fields: dict[str, object], says: str) -> None:
    with pytest.raises(errors.Invalid, match=says):
        changed(asked, **fields).scenario()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("weights", "0", r"offered\[0\].weights: weights and multiply are shares"),
        ("name", "fp8", r"variants\[0\].offered: two variants have one name"),
        ("model", "meta-llama/Llama-9", "no profile of meta-llama/Llama-9"),
        ("draft", {"tokens": 3, "acceptance": "1", "cost": "0", "source": "none"}, "nobody keeps every drafted token"),
    ],
    ids=["no weights", "a name twice", "an LLM without profiles", "a draft that never errs"],
)
def test_a_variant_that_cannot_be_names_its_field(changed: Changed, field: str, value: object, says: str) -> None:
    offered = [dict(each) for each in yaml.safe_load(yaml.safe_dump(_shipped()))]
    offered[0][field] = value
    with pytest.raises(errors.Invalid, match=says):
        changed("plain", offered=offered).scenario()


def _shipped() -> list[dict[str, object]]:
    path = Path(__file__).resolve().parents[2] / "policies" / "scenarios" / "variants.yaml"
    (run,) = (document for document in yaml.safe_load_all(path.read_text()) if document["kind"] == "Run")
    offered: list[dict[str, object]] = run["variants"][0]["offered"]
    return offered
