"""A scenario file to a scenario: manifests through `api`, traces from files, or drawn from published statistics.

Who calls it: `app.replay`, the rig's demo. Must not know: how a scenario is run.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from capstan import decide
from capstan.api import convert, errors, manifests, v1alpha1
from capstan.api import scenario as files
from capstan.api.meta import Resource
from capstan.api.powerdomain import Mode
from capstan.model.policy import Policy, Priority
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.model.sample import Missing
from capstan.model.workload import Request
from capstan.powercap import safety
from capstan.powercap.domains import Domain, NodeSample
from capstan.replay import published, synth, traces
from capstan.replay.pool import Node, room
from capstan.replay.scenario import BudgetCut, Scenario, Service

D = TypeVar("D", files.Fleet, files.Run)

DRAIN_S = 60.0  # as long as the longest answer of the trace (1,000 tokens at 50 ms) and some
RATE_WINDOW_PERIODS = 6  # shortened periods shorten the rate window with them, to no less than four scrapes
SHIPPED_PROFILES = Path(__file__).resolve().parents[3] / "policies" / "profiles"
KNOWN_TRACES = {
    "azure-2023-conversation": "azure-llm-2023/AzureLLMInferenceTrace_conv.first_half.csv",
    "azure-2023-code": "azure-llm-2023/AzureLLMInferenceTrace_code.first_half.csv",
}


def scenario(path: Path, *, trace: Path | None = None, profiles: Path | None = None) -> Scenario:
    """Read a scenario file.

    Args:
        path: A YAML stream of manifests with one `Fleet` and one `Run`.
        trace: Replaces the source of the first trace (columns TIMESTAMP, ContextTokens, GeneratedTokens).
        profiles: Folder of ServingProfiles; default: `profiles/` beside the scenario's folder, else the shipped one.

    Raises:
        Invalid: The field and the fix. TraceError: The file, the row and the fix.
    """
    documents = manifests.load(path)
    fleet, run = _only(documents, files.Fleet, path), _only(documents, files.Run, path)
    beside = path.resolve().parent.parent / "profiles"
    physics = _profiles(profiles or (beside if beside.is_dir() else SHIPPED_PROFILES), documents)
    nodes = tuple(_nodes(fleet))
    services: list[Service] = []
    told: list[str] = []
    for i, spec in enumerate(run.traces):
        policy = _policy(documents, spec.policy)
        profile = _profile(policy, physics, nodes)
        requests, source = _requests(spec, run, trace if i == 0 else None, seed=run.seed + i)
        services.append(Service(policy, profile, requests, start_replicas=policy.bounds.min_replicas))
        told.append(f"{spec.policy}: {source}")
    domains = tuple(_domain(d, nodes, services[0].profile) for d in documents if isinstance(d, v1alpha1.PowerDomain))
    settings = _settings(run)
    return Scenario(
        name=run.name,
        nodes=nodes,
        services=tuple(services),
        domains=domains,
        settings=settings,
        startup_s=float(run.startup_seconds),
        telemetry_s=float(run.telemetry_seconds),
        duration_s=float(run.duration_seconds),
        drain_s=DRAIN_S,
        cuts=tuple(_cuts(run, domains)),
        trace="; ".join(told),
        notes=_notes(run, settings),
    )


def _settings(run: files.Run) -> decide.Settings:
    cluster_s, pool_s, instance_s = run.periods_s
    return decide.Settings(
        cluster_period_s=cluster_s,
        pool_period_s=pool_s,
        instance_period_s=instance_s,
        lookback_s=cluster_s,
        rate_window_s=max(RATE_WINDOW_PERIODS * instance_s, 4.0 * run.telemetry_seconds),
    )


def _notes(run: files.Run, settings: decide.Settings) -> tuple[tuple[str, str], ...]:
    """Return what was shortened or chosen, for people: the report prints it."""
    periods = f"replicas {settings.cluster_period_s:g} s, clock {settings.instance_period_s:g} s"
    return (
        ("trace shape", f"{run.compression} times faster, requests thinned so that rates stay the trace's"),
        ("periods", f"{periods} (shipped: 1800 s and 5 s)"),
        ("start-up", f"{run.startup_seconds} s (measured on hardware: minutes)"),
        ("scrape interval", f"{run.telemetry_seconds} s, rates over {settings.rate_window_s:g} s"),
        ("not shortened", "engine steps, power timers, the clock"),
    )


def _only(documents: list[manifests.Document], kind: type[D], path: Path) -> D:
    found = [document for document in documents if isinstance(document, kind)]
    if len(found) != 1:
        raise errors.Invalid(f"{path}", f"holds {len(found)} {kind.__name__} documents; write exactly one")
    return found[0]


def _profiles(folder: Path, documents: Iterable[manifests.Document]) -> tuple[Profile, ...]:
    """Return the profiles of the file itself, then the shipped ones."""
    shipped = [d for path in sorted(folder.glob("*.yaml")) for d in manifests.load(path)]
    found = [d for d in (*documents, *shipped) if isinstance(d, v1alpha1.ServingProfile)]
    return tuple(convert.profile(_raw(profile)) for profile in found)


def _raw(document: Resource) -> dict[str, object]:
    return document.model_dump(mode="json", by_alias=True, exclude_none=True)


def _nodes(fleet: files.Fleet) -> Iterable[Node]:
    for group in fleet.nodes:
        for name in group.node_names:
            yield Node(name, group.gpus, group.gpu_product, tuple(group.labels.items()))


def _profile(policy: Policy, physics: tuple[Profile, ...], nodes: tuple[Node, ...]) -> Profile:
    """Return the profile of the smallest tp of the bounds that has one, on GPUs that the fleet has room on."""
    degrees, product = policy.bounds.tensor_parallel, nodes[0].gpu_product
    known = (decide.profile_for(policy, physics, gpu_product=product, tp=tp) for tp in degrees)
    found = next((profile for profile in known if profile is not None), None)
    if found is None:
        having = sorted({p.tp for p in physics if policy.llm in p.models})
        fix = f"no profile of {policy.llm} on {product} at tp {list(degrees)}; profiles exist at tp {having}"
        raise errors.Invalid(f"{policy.key} spec.bounds.tensorParallel", fix)
    fits = room(nodes, found)
    if fits < max(policy.bounds.min_replicas, 1):
        fix = f"the fleet has room for {fits} replicas of {found.tp} GPUs; add nodes or lower minReplicas"
        raise errors.Invalid(f"{policy.key} spec.bounds.minReplicas", fix)
    return found


def _cuts(run: files.Run, domains: tuple[Domain, ...]) -> Iterable[BudgetCut]:
    known = [domain.name for domain in domains]
    for i, event in enumerate(run.events):
        if event.domain not in known:
            fix = f"there is no PowerDomain {event.domain} in the file; use one of {', '.join(known) or 'none'}"
            raise errors.Invalid(f"events[{i}].domain", fix)
        yield BudgetCut(float(event.at_seconds), event.domain, float(event.budget_watts))


def _policy(documents: list[manifests.Document], key: str) -> Policy:
    for document in documents:
        if isinstance(document, v1alpha1.ServingPolicy) and document.key == key:
            asked = document.spec.priority
            granted = asked if asked is Priority.LOW or _admitted(documents, document) else Priority.LOW
            return convert.policy(_raw(document), granted=granted)
    raise errors.Invalid("traces[].policy", f"there is no ServingPolicy {key} in the file; add it or correct the name")


def _admitted(documents: list[manifests.Document], policy: v1alpha1.ServingPolicy) -> bool:
    """Return whether some domain admits the policy's namespace to high priority."""
    spaces = (d for d in documents if isinstance(d, files.Namespace) and d.name == policy.metadata.namespace)
    labels = next((space.metadata.labels for space in spaces), {})
    selectors = (d.spec.high_priority_namespaces for d in documents if isinstance(d, v1alpha1.PowerDomain))
    return any(selector is not None and selector.selects(labels) for selector in selectors)


def _requests(
    spec: files.Trace, run: files.Run, trace_file: Path | None, *, seed: int
) -> tuple[tuple[Request, ...], str]:
    """Return a policy's requests within the run, and in words where they came from.

    Each trace has a seed of its own: two policies that share a source do not share its requests.
    """
    path = trace_file or _source(spec.source)
    if path is not None:
        whole, source, ratio = traces.read(path).requests, f"{path.name}", float(spec.rate_ratio)
    elif spec.fallback is not None:
        name = spec.fallback.synthetic.value
        shape = published.BY_NAME[name]
        whole = synth.requests(shape.rates, shape.lengths, seed=seed)
        source, ratio = (
            f"synthetic, drawn from the published statistics of {spec.source}",
            float(spec.fallback.rate_ratio),
        )
    else:
        fix = "the trace is not on this machine; give a path, or a fallback"
        raise errors.Invalid(f"traces[{spec.policy}].source", fix)
    if ratio > run.compression:
        fix = f"{ratio:g} times the trace's rates need a compression of at least that; it is {run.compression}"
        raise errors.Invalid(f"traces[{spec.policy}].rateRatio", fix)
    kept = traces.until(traces.compress(whole, run.compression, rate_ratio=ratio, seed=seed), run.duration_seconds)
    if not kept:
        fix = f"not one of its {len(whole)} requests is left in the run; lower the compression or run longer"
        raise errors.Invalid(f"traces[{spec.policy}]", fix)
    return tuple(traces.objects(kept)), source


def _source(source: str) -> Path | None:
    """Return the file of a source, None where a known trace is not on this machine."""
    if source not in KNOWN_TRACES:
        return Path(source)
    data = traces.shared_data(Path(__file__).resolve().parent) or traces.shared_data(Path.cwd())
    found = None if data is None else data / KNOWN_TRACES[source]
    return found if found is not None and found.exists() else None


def _domain(document: v1alpha1.PowerDomain, nodes: tuple[Node, ...], profile: Profile) -> Domain:
    """Return a domain with its nodes, armed where it asks for it and its safe setting fits."""
    selector = document.spec.node_selector
    inside = tuple(n for n in nodes if selector is not None and selector.selects(dict(n.labels)))
    unarmed = convert.power_domain(_raw(document), tuple(n.name for n in inside))
    draw = profile.draw
    samples = tuple(
        NodeSample(n.name, Missing(Reason.NO_DATA), n.gpus * draw.limit_w, n.gpus, draw.min_limit_w) for n in inside
    )
    admission = safety.admit(unarmed, samples)
    armed = document.spec.mode is Mode.ACT and admission.fits
    return convert.power_domain(_raw(document), unarmed.nodes, armed=armed, safe=admission.safe if armed else None)
