"""Manifest to core: units, defaults, what this version refuses; and the same through the models and back."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.api import convert, errors, manifests, v1alpha1
from capstan.model.classes import Edges
from capstan.model.policy import Bounds, Knob, Knobs, Objective, Pools, Priority
from capstan.model.profile import Draw, Timing, Work
from support import api


def test_a_policy_arrives_in_si_units() -> None:
    policy = convert.policy(api.chat(), granted=Priority.HIGH)
    assert policy.key == "llm/chat"
    assert policy.llm == "meta-llama/Llama-3.1-70B-Instruct"
    assert (policy.slo.ttft_s, policy.slo.tpot_s, policy.slo.percentile_ratio) == (2.0, 0.1, 0.99)
    assert policy.power_budget_w == 24_000
    assert policy.bounds == Bounds(1, 12, 48, (4,), 1200.0)
    assert policy.knobs == Knobs(Knob.ACT, Knob.ADVISE, Knob.ACT)


def test_high_priority_is_granted_and_never_taken() -> None:
    """The policy asks for High; without a domain that admits it, the core sees Low."""
    assert convert.asked_priority(api.chat()) is Priority.HIGH
    assert convert.policy(api.chat()).priority is Priority.LOW


def test_what_a_policy_leaves_out_gets_the_defaults() -> None:
    policy = convert.policy(api.sample("serving-targets"))
    assert policy.power_budget_w is None
    assert policy.bounds.max_gpus is None
    assert policy.bounds.min_clock_mhz is None
    assert policy.knobs == Knobs()
    assert policy.slo.percentile_ratio == 0.99
    assert not policy.paused


def test_tiers_classes_and_objective_arrive_as_the_core_has_them() -> None:
    """The class SLO of DESIGN 7.1: 250 ms below 256 tokens, 400 ms below 1024, 2 s above."""
    tiers = [{"belowTokens": 256, "ttftMilliseconds": 250}, {"belowTokens": 1024, "ttftMilliseconds": 400}]
    edges = {"promptTokens": [512], "outputTokens": []}
    changes: dict[str, object] = {
        "spec.slo.promptTiers": tiers,
        "spec.pools": {"scheme": "ByClass", "classes": edges, "count": 2},
        "spec.objective": "Carbon",
    }
    policy = convert.policy(api.changed(api.chat(), changes))
    assert policy.slo.tiers == ((256, 0.25), (1024, 0.4))
    assert policy.slo.of_prompts(300, 1024).ttft_s == 0.4
    assert policy.pools == Pools(by_class=True, edges=Edges((512,), ()), count=2)
    assert policy.objective is Objective.CARBON


def test_prefill_apart_from_decode_arrives_as_the_core_has_it() -> None:
    assert convert.policy(api.changed(api.chat(), {"spec.pools.scheme": "Disaggregated"})).pools == Pools(
        phases_apart=True
    )


def test_without_a_word_there_is_one_pool_nine_classes_and_joules() -> None:
    policy = convert.policy(api.chat())
    assert policy.pools == Pools()
    assert policy.pools.edges.count == 9
    assert policy.objective is Objective.JOULES
    assert policy.slo.tiers == ()


@given(
    edges=st.lists(st.integers(0, 2000), max_size=4),
    tiers=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3000)), max_size=3),
    count=st.none() | st.integers(1, 20),
)
def test_pools_and_tiers_that_are_accepted_never_break_an_invariant_of_the_core(
    edges: list[int], tiers: list[tuple[int, int]], count: int | None
) -> None:
    """Either Invalid with a field below spec.slo or spec.pools, or the value; never the core's own ValueError."""
    changes: dict[str, object] = {
        "spec.slo.promptTiers": [{"belowTokens": tokens, "ttftMilliseconds": limit} for tokens, limit in tiers],
        "spec.pools": {"scheme": "ByClass", "classes": {"promptTokens": edges, "outputTokens": [100]}, "count": count},
    }
    limits = [*(limit for _, limit in tiers), 2000]
    good_tiers = all(a[0] < b[0] for a, b in itertools.pairwise(tiers)) and limits == sorted(limits)
    good_edges = edges == sorted(set(edges)) and len(edges) <= 3 and all(edge >= 2 for edge in edges)
    if good_tiers and good_edges and (count is None or count <= 2 * (len(edges) + 1)):
        assert convert.policy(api.changed(api.chat(), changes)).pools.edges.prompt_tokens == tuple(edges)
    else:
        with pytest.raises(errors.Invalid, match=r"^spec[.](slo|pools)[.]"):
            convert.policy(api.changed(api.chat(), changes))


def test_a_status_of_another_version_does_not_spoil_the_spec() -> None:
    assert convert.policy({**api.chat(), "status": {"phase": "Unheard-of"}}) == convert.policy(api.chat())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"spec.slo.tbtMilliseconds": 200}, "spec.slo.tbtMilliseconds", id="tbt-limit"),
    ],
)
def test_what_this_version_does_not_hold_is_refused_not_ignored(changes: dict[str, object], field: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        convert.policy(api.changed(api.chat(), changes))
    assert caught.value.field == field
    assert "this version" in caught.value.fix


def test_a_profiles_decimal_strings_become_numbers() -> None:
    spec = manifests.parse(v1alpha1.ServingProfile, api.profile()).spec
    profile = convert.profile(api.profile())
    assert profile.timing.per_context_token_s == float(spec.timing.per_context_token_seconds)
    assert profile.clocks.max_mhz == 1980
    assert profile.clocks.assumed
    assert profile.covers("meta-llama/Llama-3.1-70B-Instruct", "NVIDIA-H100-80GB-HBM3", 4)


def test_every_parameter_of_the_physics_comes_from_the_manifest() -> None:
    """Each field of the record moves when its manifest field does: none is forgotten, none is swapped."""
    manifest, before = api.profile(), convert.profile(api.profile())
    sections: dict[str, Timing | Draw | Work] = {"timing": before.timing, "draw": before.draw, "work": before.work}
    for section, record in sections.items():
        spec = manifest["spec"]
        assert isinstance(spec, dict)
        assert len(spec[section]) == len(dataclasses.fields(record))
        moved = set()
        for name, value in spec[section].items():
            other = value + 1 if isinstance(value, int) else f"{float(value) * 0.9 or 0.1:.6g}"
            after = convert.profile(api.changed(manifest, {f"spec.{section}.{name}": other}))
            now = getattr(after, section)
            changed = [f.name for f in dataclasses.fields(now) if getattr(now, f.name) != getattr(record, f.name)]
            assert len(changed) == 1, name
            moved.add(changed[0])
        assert moved == {f.name for f in dataclasses.fields(record)}


@given(
    low=st.integers(1, 10_000),
    high=st.integers(1, 10_000),
    degrees=st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=4),
    gpus=st.none() | st.integers(1, 64),
)
def test_a_spec_that_is_accepted_never_breaks_an_invariant_of_the_core(
    low: int, high: int, degrees: list[int], gpus: int | None
) -> None:
    """Either Invalid with a field below spec.bounds, or a Policy: the core's own ValueError never surfaces."""
    bounds = {"minReplicas": low, "maxReplicas": high, "tensorParallel": degrees, "maxGPUs": gpus}
    manifest = api.changed(api.chat(), {"spec.bounds": bounds})
    ascending = all(a < b for a, b in itertools.pairwise(degrees)) and not {3, 6} & set(degrees)
    if low <= high and ascending and (gpus is None or gpus >= low * degrees[0]):
        assert convert.policy(manifest).bounds.max_replicas == high
    else:
        with pytest.raises(errors.Invalid, match=r"^spec[.]bounds[.]"):
            convert.policy(manifest)


def test_a_manifest_survives_the_model_and_back() -> None:
    for base, kind in ((api.chat, v1alpha1.ServingPolicy), (api.rack, v1alpha1.PowerDomain)):
        parsed = manifests.parse(kind, base())
        again = parsed.manifest()
        assert manifests.parse(kind, again) == parsed


def test_the_engine_template_is_carried_untouched() -> None:
    """What Kubernetes knows and we do not stays in the template, field for field."""
    spec = manifests.parse(v1alpha1.ServingPolicy, api.chat()).spec
    assert spec.engine is not None
    dumped = spec.engine.template.model_dump(mode="json", by_alias=True)
    written = api.chat()["spec"]
    assert isinstance(written, dict)
    assert dumped["spec"] == written["engine"]["template"]["spec"]


def test_every_shipped_file_loads(root: Path) -> None:
    paths = sorted((root / "policies").rglob("*.yaml"))
    assert len(paths) >= 8
    for path in paths:
        assert manifests.load(path)
