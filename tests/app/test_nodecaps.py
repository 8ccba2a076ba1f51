"""The agent's small parser of NodeCaps and lease calls: as `api` reads them, and one clear error for what is odd."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.adapters import errors
from capstan.agent.lease import Granted, Renewal
from capstan.agent.ports import PlannedClock, Pod
from capstan.api import errors as api_errors
from capstan.api import manifests, v1alpha1
from capstan.app import nodecaps
from capstan.powercap.domains import ClassCaps, SafeSetting

Document = dict[str, object]
NAMES: st.SearchStrategy[object] = st.sampled_from(["chat-1", "batch-1", "a", "", 5, None])
NUMBERS: st.SearchStrategy[object] = st.one_of(
    st.integers(1, 2000), st.sampled_from([0, -1, 10_000, 10_001, 2**53 - 1, 2**53, 10**9, 10**9 + 1, 60, 61]),
    st.sampled_from([1.5, "1410", None, True, float("nan"), []]),
)  # fmt: skip
WHOLE: st.SearchStrategy[object] = st.integers(1, 60)


def specs(number: st.SearchStrategy[object], name: st.SearchStrategy[object]) -> st.SearchStrategy[Document]:
    pod = mapping({"namespace": name, "name": name})
    planned = mapping({"namespace": name, "name": name, "clockMegahertz": number})
    caps = mapping({}, {"lowMegahertz": number, "powerLimitWatts": number})
    safe = mapping({"clockMegahertz": number, "powerLimitWatts": number})
    grant = mapping({"ledger": name, "sequence": number, "watts": number})
    power = mapping(
        {"epoch": number, "sequence": number, "safe": safe},
        {"caps": caps, "leaseSeconds": number, "highPods": few(pod), "grants": few(grant)},
    )
    plan = mapping({"sequence": number}, {"pods": few(planned)})
    return mapping({}, {"plan": plan, "power": power, "typo": st.just(1)})


def mapping(
    required: dict[str, st.SearchStrategy[object]], optional: dict[str, st.SearchStrategy[object]] | None = None
) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries(required, optional=optional or {})


def few(one: st.SearchStrategy[Document]) -> st.SearchStrategy[object]:
    return st.lists(one, unique_by=str, max_size=3)


def whole(spec: Document) -> Document:
    return {"apiVersion": "capstan.dev/v1alpha1", "kind": "NodeCap", "metadata": {"name": "gpu-0"}, "spec": spec}


def by_api(document: Document) -> nodecaps.Parsed | None:
    """Return what pydantic reads; None where it refuses."""
    try:
        spec = manifests.parse(v1alpha1.NodeCap, copy.deepcopy(document)).spec
    except api_errors.Invalid:
        return None
    plan = None
    if spec.plan is not None:
        plan = tuple(PlannedClock(Pod(one.namespace, one.name), one.clock_megahertz) for one in spec.plan.pods)
    if spec.power is None:
        return None, plan
    power, caps, safe = spec.power, spec.power.caps, spec.power.safe
    high = frozenset(Pod(pod.namespace, pod.name) for pod in power.high_pods)
    limits = ClassCaps(caps.low_megahertz, caps.high_megahertz, caps.power_limit_watts)
    setting = SafeSetting(safe.clock_megahertz, safe.power_limit_watts)
    return Granted(power.epoch, power.sequence, limits, high, setting), plan


def by_agent(document: Document) -> nodecaps.Parsed | None:
    try:
        return nodecaps.node_cap(document, "gpu-0")
    except errors.Malformed:
        return None


@given(specs(NUMBERS, NAMES))
@settings(max_examples=150)
def test_what_the_api_refuses_the_agent_refuses(spec: Document) -> None:
    assert by_agent(whole(spec)) == by_api(whole(spec))


GOOD_NAMES: st.SearchStrategy[object] = st.sampled_from(["chat-1", "batch-1", "a"])


@given(specs(WHOLE, GOOD_NAMES))
@settings(max_examples=150)
def test_what_the_api_accepts_the_agent_reads_the_same(spec: Document) -> None:
    assert by_agent(whole(spec)) == by_api(whole(spec))


def good() -> Document:
    power = {"epoch": 1, "sequence": 2, "safe": {"clockMegahertz": 1110, "powerLimitWatts": 400}}
    return whole({"power": {**power, "caps": {"lowMegahertz": 1560}, "highPods": [{"namespace": "a", "name": "b"}]}})


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("metadata", "name"), "gpu-1", "metadata.name is gpu-1, and this is gpu-0"),
        (("spec", "power", "caps", "lowMegahertz"), float("nan"), "spec.power.caps.lowMegahertz must be a whole"),
        (("spec", "power", "caps", "lowMegahertz"), -1, "spec.power.caps.lowMegahertz must be a whole number from 1"),
        (("spec", "power", "safe", "powerLimitWatts"), 0, "spec.power.safe.powerLimitWatts must be a whole number"),
        (("spec", "power", "epoch"), "1", "spec.power.epoch must be a whole number from 0"),
        (("spec", "power", "highPods"), [{"name": "b"}], r"spec.power.highPods\[0\].namespace must be text"),
        (("spec", "power", "highPods"), [{}] * 65, "spec.power.highPods must be a list of at most 64"),
        (("spec", "power", "brake"), 1, "spec.power.brake is not known here: update the agents"),
        (("spec",), {}, "spec holds neither plan nor power"),
        (("spec",), None, "spec must be a mapping"),
        (("metadata",), None, "object.metadata must be a mapping"),
    ],
)
def test_one_clear_error_names_the_field(path: tuple[str, ...], value: object, words: str) -> None:
    document = good()
    at = document
    for part in path[:-1]:
        at = at[part]  # type: ignore[assignment]  # mappings all the way
    at[path[-1]] = value
    with pytest.raises(errors.Malformed, match=words):
        nodecaps.node_cap(document, "gpu-0")


def test_a_nodecap_that_is_not_there_is_no_error() -> None:
    assert nodecaps.node_cap(None, "gpu-0") == (None, None)


CALL: Document = {"epoch": 1, "sequence": 2, "leaseSeconds": 4, "caps": {"lowMegahertz": 1560}}


def test_a_lease_call_is_read() -> None:
    assert nodecaps.renewal(CALL) == Renewal(1, 2, 4.0, ClassCaps(1560))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda call: call.update(caps={"lowMegahertz": float("nan")}),
        lambda call: call.update(caps={"highMegahertz": 0}),
        lambda call: call.update(caps={"powerLimitWatts": float("inf")}),
        lambda call: call.update(caps=[]),
        lambda call: call.update(epoch=1.5),
        lambda call: call.update(epoch=-1),
        lambda call: call.update(sequence=True),
        lambda call: call.update(leaseSeconds=0),
        lambda call: call.update(leaseSeconds=3600),
        lambda call: call.pop("sequence"),
    ],
    ids=["NaN", "zero", "infinite", "a list", "half an epoch", "negative", "true", "no time", "an hour", "missing"],
)
def test_a_lease_call_with_nonsense_is_refused(spoil: Callable[[Document], object]) -> None:
    call = copy.deepcopy(CALL)
    spoil(call)
    with pytest.raises(errors.Malformed):
        nodecaps.renewal(call)


@pytest.mark.parametrize("body", [None, [], "x", 5])
def test_a_lease_call_is_an_object(body: object) -> None:
    with pytest.raises(errors.Malformed, match="JSON object"):
        nodecaps.renewal(body)
