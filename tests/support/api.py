"""Manifests for the API's tests: the shipped samples, ways to change them, and the table of invalid objects.

The table is one, its judges are two: pydantic (files, tests/api) and the real API server (tests/integration).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

Manifest = dict[str, object]

POLICIES = Path(__file__).resolve().parents[2] / "policies"


PLURALS = {
    "ServingPolicy": "namespaces/{namespace}/servingpolicies",
    "PowerDomain": "powerdomains",
    "ServingProfile": "servingprofiles",
    "NodeCap": "nodecaps",
    "PowerLedger": "powerledgers",
}
"""Where the objects of a kind live below /apis/capstan.dev/v1alpha1."""


class _Drop:
    """The value that removes a field."""


DROP: Final = _Drop()


def sample(name: str) -> Manifest:
    """Return the one object of a shipped file, such as `serving-chat`."""
    made = yaml.safe_load((POLICIES / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(made, dict)
    return made


def chat() -> Manifest:
    return sample("serving-chat")


def rack() -> Manifest:
    return sample("power-rack")


def profile() -> Manifest:
    return sample("profiles/llama-3.1-70b-h100-sxm5-80gb-tp4")


def node_cap() -> Manifest:
    """A NodeCap as the contract of docs/designs/20261121-the-house.md shows it."""
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "NodeCap",
        "metadata": {"name": "gpu-0"},
        "spec": {
            "plan": {"sequence": 12, "pods": [{"namespace": "llm", "name": "chat-tp4-x", "clockMegahertz": 1410}]},
            "power": {
                "epoch": 3,
                "sequence": 41,
                "leaseSeconds": 4,
                "caps": {"lowMegahertz": 1560, "highMegahertz": 1980, "powerLimitWatts": 700},
                "highPods": [{"namespace": "llm", "name": "chat-tp4-x"}],
                "safe": {"clockMegahertz": 1110, "powerLimitWatts": 400},
            },
        },
    }


def ledger() -> Manifest:
    """A PowerLedger of one rack of one node, as `capstan power` writes it."""
    entry = {"node": "gpu-0", "domains": ["rack-7"], "grantWatts": 5200, "sequence": 17, "heldWatts": 6000}
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "PowerLedger",
        "metadata": {"name": "rack-7"},
        "spec": {
            "version": 17,
            "grantedWatts": 5200,
            "heldWatts": 6000,
            "budgets": [{"domain": "rack-7", "watts": 12000}],
            "entries": [entry],
        },
    }


def changed(manifest: Manifest, changes: dict[str, object]) -> Manifest:
    """Return a copy with fields set by path (`spec.bounds.maxReplicas`, `spec.targets.0.tensorParallel`)."""
    made = copy.deepcopy(manifest)
    for path, value in changes.items():
        at: object = made
        *parents, last = path.split(".")
        for step in parents:
            at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})  # type: ignore[attr-defined]  # a test's own data
        if isinstance(value, _Drop):
            at.pop(last)  # type: ignore[attr-defined]  # a test's own data
        elif isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value  # type: ignore[index]  # a test's own data
    return made


@dataclass(frozen=True, slots=True)
class Invalid:
    """An object that must be refused, and the words that the refusal must hold: the field, and a piece of the fix.

    `fix` is empty where the two judges have words of their own (ranges, types); a rule of ours has one text for both.
    """

    why: str
    base: str
    changes: dict[str, object]
    field: str
    fix: str = ""

    def manifest(self) -> Manifest:
        bases = {"policy": chat, "targets": lambda: sample("serving-targets"), "domain": rack, "profile": profile}
        return changed({**bases, "cap": node_cap, "ledger": ledger}[self.base](), self.changes)


def _tiers(*tiers: tuple[int, int]) -> list[Manifest]:
    return [{"belowTokens": tokens, "ttftMilliseconds": limit} for tokens, limit in tiers]


_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "assistant-tp4"}

INVALID = (
    # --- ServingPolicy ---------------------------------------------------------------------------
    Invalid("no-slo", "policy", {"spec.slo": DROP}, "slo"),
    Invalid("no-model", "policy", {"spec.model": DROP}, "model"),
    Invalid("empty-model", "policy", {"spec.model": ""}, "model"),
    Invalid("misspelled-field", "policy", {"spec.slo.ttftMs": 2000}, "ttftMs"),
    Invalid("ttft-as-text", "policy", {"spec.slo.ttftMilliseconds": "2s"}, "ttftMilliseconds"),
    Invalid("ttft-as-fraction", "policy", {"spec.slo.ttftMilliseconds": 0.5}, "ttftMilliseconds"),
    Invalid("tpot-zero", "policy", {"spec.slo.tpotMilliseconds": 0}, "tpotMilliseconds"),
    Invalid("percentile-100", "policy", {"spec.slo.percentile": 100}, "percentile"),
    Invalid("percentile-below-the-median", "policy", {"spec.slo.percentile": 5}, "percentile"),
    Invalid("priority-medium", "policy", {"spec.priority": "Medium"}, "priority"),
    Invalid("negative-power-budget", "policy", {"spec.powerBudgetWatts": -1}, "powerBudgetWatts"),
    Invalid("no-bounds", "policy", {"spec.bounds": DROP}, "bounds"),
    Invalid(
        "min-above-max",
        "policy",
        {"spec.bounds.minReplicas": 5, "spec.bounds.maxReplicas": 4},
        "minReplicas",
        "must not be above maxReplicas",
    ),
    Invalid("no-replica-at-all", "policy", {"spec.bounds.maxReplicas": 0}, "maxReplicas"),
    Invalid("tp-three", "policy", {"spec.bounds.tensorParallel": [3]}, "tensorParallel", "must be a power of two"),
    Invalid("tp-descending", "policy", {"spec.bounds.tensorParallel": [8, 4]}, "tensorParallel", "must ascend"),
    Invalid("tp-twice", "policy", {"spec.bounds.tensorParallel": [4, 4]}, "tensorParallel", "without repeats"),
    Invalid("tp-empty", "policy", {"spec.bounds.tensorParallel": []}, "tensorParallel"),
    Invalid("fewer-gpus-than-one-replica", "policy", {"spec.bounds.maxGPUs": 2}, "maxGPUs", "must hold one replica"),
    Invalid(
        "minimum-beyond-the-gpus",
        "policy",
        {"spec.bounds.minReplicas": 3, "spec.bounds.maxGPUs": 8},
        "minReplicas",
        "are more than maxGPUs",
    ),
    Invalid("knob-misspelled", "policy", {"spec.knobs.replicas": "act"}, "replicas"),
    Invalid("scheme-unknown", "policy", {"spec.pools.scheme": "Many"}, "scheme"),
    Invalid("limits-per-class-of-old", "policy", {"spec.slo.classes": [{"name": "SS"}]}, "classes"),
    Invalid("objective-misspelled", "policy", {"spec.objective": "joules"}, "objective"),
    Invalid(
        "tiers-descending",
        "policy",
        {"spec.slo.promptTiers": _tiers((1024, 400), (256, 250))},
        "promptTiers",
        "belowTokens must ascend",
    ),
    Invalid(
        "tier-twice",
        "policy",
        {"spec.slo.promptTiers": _tiers((256, 250), (256, 400))},
        "promptTiers",
        "without repeats",
    ),
    Invalid(
        "tier-looser-than-the-policy",
        "policy",
        {"spec.slo.promptTiers": _tiers((256, 2001))},
        "promptTiers",
        "stay at or below",
    ),
    Invalid(
        "tier-tighter-for-longer-prompts",
        "policy",
        {"spec.slo.promptTiers": _tiers((256, 400), (512, 250))},
        "promptTiers",
        "no tighter limit",
    ),
    Invalid(
        "prompt-edges-descending",
        "policy",
        {"spec.pools.classes": {"promptTokens": [1024, 256]}},
        "promptTokens",
        "edges must ascend",
    ),
    Invalid(
        "output-edge-twice",
        "policy",
        {"spec.pools.classes": {"outputTokens": [100, 100]}},
        "outputTokens",
        "without repeats",
    ),
    Invalid("edge-of-one-token", "policy", {"spec.pools.classes": {"promptTokens": [1]}}, "promptTokens"),
    Invalid("four-edges", "policy", {"spec.pools.classes": {"promptTokens": [2, 3, 4, 5]}}, "promptTokens"),
    Invalid("count-of-a-single-pool", "policy", {"spec.pools": {"count": 2}}, "count", "only ByClass"),
    Invalid(
        "more-pools-than-classes",
        "policy",
        {"spec.pools": {"scheme": "ByClass", "count": 10}},
        "count",
        "fewer classes",
    ),
    Invalid(
        "neither-engine-nor-targets", "policy", {"spec.engine": DROP}, "engine", "exactly one of engine and targets"
    ),
    Invalid(
        "engine-and-targets",
        "policy",
        {"spec.targets": [{"scaleTargetRef": _TARGET, "tensorParallel": 4}]},
        "engine",
        "exactly one of engine and targets",
    ),
    Invalid("template-without-containers", "policy", {"spec.engine.template.spec.containers": []}, "containers"),
    Invalid("container-not-there", "policy", {"spec.engine.container": "vllm"}, "container", "has this name"),
    Invalid("name-too-long-for-a-label", "policy", {"metadata.name": "c" * 60}, "metadata.name", "at most 52"),
    Invalid("name-with-a-dot", "policy", {"metadata.name": "chat.v2"}, "metadata.name", "starting with a letter"),
    Invalid("paused-as-text", "policy", {"spec.paused": "yes"}, "paused"),
    Invalid(
        "target-outside-bounds", "targets", {"spec.bounds.tensorParallel": [4]}, "targets", "bounds.tensorParallel"
    ),
    Invalid(
        "one-workload-twice",
        "targets",
        {"spec.targets.1.scaleTargetRef.name": "assistant-tp4"},
        "targets",
        "list each workload once",
    ),
    Invalid("target-is-a-pod", "targets", {"spec.targets.0.scaleTargetRef.kind": "Pod"}, "kind"),
    # --- PowerDomain -----------------------------------------------------------------------------
    Invalid("no-budget", "domain", {"spec.budgetWatts": DROP}, "budgetWatts"),
    Invalid("budget-zero", "domain", {"spec.budgetWatts": 0}, "budgetWatts"),
    Invalid("own-parent", "domain", {"spec.parentName": "rack-7"}, "parentName", "cannot be its own parent"),
    Invalid("rack-without-nodes", "domain", {"spec.nodeSelector": DROP}, "nodeSelector", "which nodes stand in it"),
    Invalid(
        "selector-that-selects-nothing", "domain", {"spec.nodeSelector.matchLabels": {}}, "matchLabels", "add a label"
    ),
    Invalid("low-above-high", "domain", {"spec.thresholds.lowPercent": 80}, "lowPercent", "must be below highPercent"),
    Invalid("high-above-brake", "domain", {"spec.thresholds.highPercent": 98}, "highPercent", "below brakePercent"),
    Invalid(
        "cap-that-never-goes",
        "domain",
        {"spec.thresholds.lowPercent": 4},
        "hysteresisPercent",
        "must be below lowPercent",
    ),
    Invalid("threshold-above-100", "domain", {"spec.thresholds.brakePercent": 101}, "brakePercent"),
    Invalid("brake-above-deep", "domain", {"spec.caps.brakeMegahertz": 1700}, "brakeMegahertz", "the tightest cap"),
    Invalid("deep-above-base", "domain", {"spec.caps.lowDeepMegahertz": 1800}, "lowDeepMegahertz", "above lowBase"),
    Invalid("high-below-deep", "domain", {"spec.caps.highMegahertz": 1500}, "highMegahertz", "not be below lowDeep"),
    Invalid("typical-above-worst", "domain", {"spec.nonGPUWattsPerNode.typical": 5000}, "typical", "above worstCase"),
    Invalid(
        "efficiency-above-one", "domain", {"spec.powerSupplyEfficiencyPercent": 110}, "powerSupplyEfficiencyPercent"
    ),
    Invalid(
        "reduction-backwards",
        "domain",
        {
            "spec.reductions": [
                {"from": "2026-11-21T20:00:00Z", "to": "2026-11-21T18:00:00Z", "budgetWatts": 30000},
            ]
        },
        "from",
        "must be before to",
    ),
    Invalid(
        "reduction-that-raises",
        "domain",
        {
            "spec.reductions": [
                {"from": "2026-11-21T18:00:00Z", "to": "2026-11-21T20:00:00Z", "budgetWatts": 50000},
            ]
        },
        "reductions",
        "must be below the domain's budgetWatts",
    ),
    Invalid(
        "expression-without-values",
        "domain",
        {"spec.nodeSelector.matchExpressions": [{"key": "rack", "operator": "In"}]},
        "values",
        "need at least one value",
    ),
    # --- ServingProfile --------------------------------------------------------------------------
    Invalid("parameter-as-number", "profile", {"spec.timing.hostSeconds": 0.004}, "hostSeconds"),
    Invalid("parameter-negative", "profile", {"spec.timing.hostSeconds": "-0.004"}, "hostSeconds"),
    Invalid("parameter-not-a-number", "profile", {"spec.draw.gamma": "nan"}, "gamma"),
    Invalid("share-above-one", "profile", {"spec.timing.decodeClockRatio": "1.5"}, "decodeClockRatio"),
    Invalid("weights-in-no-time", "profile", {"spec.timing.weightsSeconds": "0.0"}, "weightsSeconds", "must be above"),
    Invalid("bend-below-one", "profile", {"spec.timing.bend": "0.5"}, "bend", "must be at least"),
    Invalid("no-stock-clock", "profile", {"spec.timing.stockClockRatio": "0"}, "stockClockRatio", "must be above"),
    Invalid("clocks-swapped", "profile", {"spec.clocks.minMegahertz": 1980}, "minMegahertz", "below maxMegahertz"),
    Invalid("knee-at-one", "profile", {"spec.clocks.voltageKneeRatio": "1"}, "voltageKneeRatio", "must be below"),
    Invalid(
        "limit-below-its-minimum", "profile", {"spec.draw.minLimitWatts": 701}, "minLimitWatts", "above limitWatts"
    ),
    Invalid("no-voltage", "profile", {"spec.clocks.voltageMinRatio": "0"}, "voltageMinRatio", "must be above"),
    Invalid("range-backwards", "profile", {"spec.validRange.batch.min": 5000}, "min", "must not be above max"),
    Invalid("no-gpu-product", "profile", {"spec.gpuProducts": []}, "gpuProducts"),
    Invalid("tp-six", "profile", {"spec.tensorParallel": 6}, "tensorParallel", "must be a power of two"),
    # --- NodeCap ---------------------------------------------------------------------------------
    Invalid("empty-cap", "cap", {"spec": {}}, "power", "holds plan, power or both"),
    Invalid("no-safe-setting", "cap", {"spec.power.safe": DROP}, "safe"),
    Invalid("lease-for-ever", "cap", {"spec.power.leaseSeconds": 86_400}, "leaseSeconds"),
    Invalid("cap-of-zero", "cap", {"spec.power.caps.lowMegahertz": 0}, "lowMegahertz"),
    Invalid(
        "grant-of-zero",
        "cap",
        {"spec.power.grants": [{"ledger": "rack-7", "sequence": 1, "watts": 0}]},
        "watts",
    ),
    # --- PowerLedger -----------------------------------------------------------------------------
    Invalid(
        "more-told-than-counted", "ledger", {"spec.entries.0.grantWatts": 6001}, "grantWatts", "not be above heldWatts"
    ),
    Invalid("negative-holding", "ledger", {"spec.entries.0.heldWatts": -1}, "heldWatts"),
    Invalid("ledger-without-version", "ledger", {"spec.version": DROP}, "version"),
)
"""At least 25 of them; ids are unique, so that a failure names its case."""
