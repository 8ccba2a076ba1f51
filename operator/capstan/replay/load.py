"""A scenario file to scenarios: manifests through `api`, traces from files, or drawn from published statistics.

Who calls it: `app.replay`, the rig's demo. Must not know: how a scenario is run. `read` reads files once; `Loaded`
makes a scenario per seed, fleet size and rate of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan import decide
from capstan.api import convert, convert_power, errors, manifests, v1alpha1
from capstan.api import scenario as files
from capstan.api.powerdomain import Mode
from capstan.api.system import Split, System
from capstan.forecast import calendar as calendars
from capstan.forecast.calendar import Calendar
from capstan.model.classes import Edges
from capstan.model.objective import Tariffs
from capstan.model.policy import Policy, Priority
from capstan.model.profile import ClockResponse, Profile
from capstan.model.reasons import Reason
from capstan.model.sample import Missing
from capstan.powercap import readings, safety
from capstan.powercap.domains import Domain, NodeSample
from capstan.replay import believed, classify, configured, costs, events, sources, start, traces, variants
from capstan.replay.nodes import Node, room
from capstan.replay.options import Options
from capstan.replay.runs import Requests
from capstan.replay.scenario import Scenario
from capstan.replay.scores import limits
from capstan.replay.seen import Service

SHORTEST_LOOKBACK_S = 900.0  # the rate of a request every two seconds is known to 5 % after 800
RATE_WINDOW_PERIODS = 6  # shortened periods shorten the rate window with them, to no less than four scrapes
SHIPPED = Path(__file__).resolve().parents[3] / "policies"
POOLED = (Split.PER_CLASS, Split.COUNT)
"""Splits that send requests to pools by what they are taken for, whatever their policy says."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A scenario file, read: documents, physics, and the traces as they are."""

    path: Path
    documents: tuple[manifests.Document, ...]
    run: files.Run
    fleet: files.Fleet
    options: Options
    profiles: tuple[Profile, ...]
    truths: tuple[Profile, ...]
    demands: tuple[sources.Demand, ...]
    systems: dict[str, System]
    tariffs: Tariffs

    @property
    def chancy(self) -> bool:
        """Whether another seed would be another run, at the trace's own rates."""
        if self.run.compression != 1 or events.bursts(self.run) or any(demand.chancy for demand in self.demands):
            return True
        return classify.chancy(self.options.guess) and self._pooled

    @property
    def _pooled(self) -> bool:
        """Whether a policy, or a system that was asked for, may split requests by what they are taken for."""
        asked = (self.systems[name].split for name in self.options.systems if name in self.systems)
        policies = (_policy(self.documents, demand.spec.policy) for demand in self.demands)
        return any(split in POOLED for split in asked) or any(policy.pools.by_class for policy in policies)

    def scenario(self, *, seed: int | None = None, servers: int | None = None, rate: float = 1.0) -> Scenario:
        """Return the scenario of one seed, fleet size and rate multiple.

        Raises:
            Invalid: The fleet cannot hold what the policies ask for, or no request is left.
        """
        run = self.run
        seed = self.options.seeds[0] if seed is None else seed
        nodes = tuple(_nodes(self.fleet, servers))
        demands = self._demands(servers)
        served = [self._service(demand, nodes, seed=seed + i, rate=rate) for i, demand in enumerate(demands)]
        services = start.shared(tuple(service for service, _ in served), nodes)
        domains = tuple(
            _domain(d, nodes, services[0].profiles[0]) for d in self.documents if isinstance(d, v1alpha1.PowerDomain)
        )
        settings = _settings(run, self.options)
        calendar = _calendar(self.demands[0], run, settings.pool_period_s)
        settings = dataclasses.replace(settings, tariffs=self.tariffs, calendar=calendar)
        kinds = tuple(service.policy.objective for service in services)
        lasting_s = max(float(service.requests.arrival_s[-1]) for service in services)
        return Scenario(
            name=run.name,
            nodes=nodes,
            services=services,
            truths=tuple(truth for _, truth in served),
            domains=domains,
            settings=settings,
            startup_s=float(_startup_s(run, self.options)),
            telemetry_s=float(run.telemetry_seconds),
            duration_s=lasting_s if run.duration_seconds is None else float(run.duration_seconds),
            drain_s=float(run.drain_seconds),
            cuts=events.cuts(run, domains),
            losses=events.losses(run, nodes),
            bursts=events.bursts(run),
            slices_per_s=files.MILLISECONDS_PER_SECOND // run.slice_milliseconds,
            trace="; ".join(
                f"{demand.spec.policy}: {demand.source}{_too_long(service, truth)}"
                for demand, (service, truth) in zip(self.demands, served, strict=True)
            ),
            notes=(
                *_notes(run, self.options, settings, rate=rate, seed=seed),
                *_class_notes(services, self.options),
                *costs.notes(self.options, run, self.tariffs, kinds),
                *self._fleet_notes(servers, domains),
            ),
        )

    def _demands(self, servers: int | None) -> tuple[sources.Demand, ...]:
        """Return the demands of a fleet: as many requests per server as the file's fleet has, where that is asked for.

        Raises:
            Invalid: That would be more than the trace has.
        """
        if servers is None or not self.run.rate_follows_servers:
            return self.demands
        ratio = servers / self.fleet.nodes[0].count
        return tuple(sources.denser(demand, self.run, ratio, f"--servers {servers}") for demand in self.demands)

    def _fleet_notes(self, servers: int | None, domains: tuple[Domain, ...]) -> Iterable[tuple[str, str]]:
        """Yield what was chosen of fleet and domains, for people."""
        built = self.fleet.nodes[0].count
        if self.run.rate_follows_servers:
            ratio = 1.0 if servers is None else servers / built
            yield "servers", f"{servers or built}, rates {ratio:g} times those of {built}"
        if domains:
            yield "watts of power domains", f"means over {self.run.slice_milliseconds} ms"
            unarmed = ", ".join(domain.name for domain in domains if not domain.armed)
            yield "power domains", f"{unarmed}: not armed, the safe setting does not fit" if unarmed else "can be armed"

    def _service(
        self, demand: sources.Demand, nodes: tuple[Node, ...], *, seed: int, rate: float
    ) -> tuple[Service, tuple[Profile, ...]]:
        """Return a service and the physics that it truly runs on."""
        policy = _policy(self.documents, demand.spec.policy)
        policy = costs.aimed(_aimed(policy, self.options.slo), self.options, self.tariffs)
        requests = sources.played(demand, self.run, seed=seed, rate=rate)
        known, truth = self._physics(policy, requests, nodes)
        history = sources.before(demand, self.run, seed=seed, rate=rate)
        policy = _classed(policy, classify.edges(self.options.edges, policy.pools.edges, history or requests))
        guess = self.options.guess
        predicted = classify.predicted(requests, policy.pools.edges, guess, seed=seed, history=history)
        if self.run.start is files.Start.SIZED:
            want = start.sized(policy, known, requests, nodes)
        else:
            want = start.at_bounds(policy, known)
        most_gpus = max(room(nodes, profile) * profile.tp for profile in known)
        return Service(policy, known, want, most_gpus, requests, history, predicted), truth

    def _physics(
        self, policy: Policy, requests: Requests, nodes: tuple[Node, ...]
    ) -> tuple[tuple[Profile, ...], tuple[Profile, ...]]:
        """Return what is believed of each tp, and what is true: of the policy's own model, or of the variant in use.

        A variant is chosen by what is believed.
        """
        spec, asked = variants.of(self.run, policy.key), self.options.variant
        if spec is None or asked is None:
            known = believed.believed(policy, self.profiles, nodes)
            return known, believed.true(policy, known, self.truths, nodes)
        gpus = sum(node.gpus for node in nodes)
        offered = variants.offered(spec, policy, self.profiles, nodes)
        offer = variants.chosen(asked, offered, policy, requests, gpus=gpus)
        truths = variants.offered(spec, policy, self.truths, nodes)
        true = next(each for each in truths.offers if each.variant == offer.variant)
        return offer.profiles, true.profiles


def read(path: Path, options: Options | None = None) -> Loaded:
    """Read a scenario file with its traces and profiles.

    Args:
        path: A YAML stream of manifests with one `Fleet` and one `Run`.
        options: What was asked for beside it.

    Raises:
        Invalid: The field and the fix. TraceError, TariffError: The file, the row and the fix.
    """
    documents = manifests.load(path)
    fleet, run = manifests.only(documents, files.Fleet, path), manifests.only(documents, files.Run, path)
    asked = (options or Options()).over(run, path.resolve().parent)
    tariffs = costs.of(asked, run)  # before traces of millions of rows
    ours = policies_of(path)
    known = believed.shipped(asked.profiles or ours / "profiles", documents)
    truths = known if asked.truth is None else believed.among(manifests.load(asked.truth))
    demands = []
    for index, spec in enumerate(run.traces):
        drawn = asked.history if isinstance(asked.history, files.History) else None  # a file is the first policy's
        theirs = asked if index == 0 else dataclasses.replace(asked, trace=None, columns=None, history=drawn)
        demands.append(sources.read(spec, run, theirs))
    return Loaded(
        path=path,
        documents=tuple(documents),
        run=run,
        fleet=fleet,
        options=asked,
        profiles=tuple(believed.as_asked(profile, run, asked) for profile in known),
        truths=tuple(believed.scaled(believed.as_asked(profile, run, asked), asked) for profile in truths),
        demands=tuple(demands),
        systems=configured.shipped(ours / "systems"),
        tariffs=tariffs,
    )


def policies_of(path: Path) -> Path:
    """Return the folder of a scenario's profiles and systems: the one above its own, else what is shipped."""
    beside = path.resolve().parent.parent
    return beside if (beside / "profiles").is_dir() else SHIPPED


def scenario(path: Path, *, trace: Path | None = None, profiles: Path | None = None) -> Scenario:
    """Read a scenario file and return it as it stands.

    Raises:
        Invalid: The field and the fix. TraceError: The file, the row and the fix.
    """
    return read(path, Options(trace=trace, profiles=profiles)).scenario()


# --- settings --------------------------------------------------------------------------------------


def _aimed(policy: Policy, judged: files.SloSet | None) -> Policy:
    """Return a policy that aims at the limits by which it will be judged."""
    if judged is None or judged is files.SloSet.SCENARIO:
        return policy
    return dataclasses.replace(policy, slo=limits.aim(judged, policy.slo))


def _classed(policy: Policy, edges: Edges) -> Policy:
    """Return a policy whose classes begin at these edges.

    Raises:
        Invalid: It asks for more pools than that makes classes.
    """
    try:
        return dataclasses.replace(policy, pools=dataclasses.replace(policy.pools, edges=edges))
    except ValueError as problem:
        fix = f"{policy.key} wants {policy.pools.count} pools of {edges.count} classes; ask for fewer, or other edges"
        raise errors.Invalid("--classes", fix) from problem


def _settings(run: files.Run, options: Options) -> decide.Settings:
    """Return the periods in force.

    Raises:
        Invalid: `--periods` is not three whole numbers in order.
    """
    told = options.periods or run.periods
    seconds = tuple(map(int, told.split(","))) if re.fullmatch(files.PERIODS_PATTERN, told) else (0, 0, 0)
    cluster_s, pool_s, instance_s = seconds
    if not 0 < instance_s <= min(cluster_s, pool_s):
        fix = f"{told} is not cluster,pool,instance in whole seconds above 0, instance the shortest; write 1800,300,5"
        raise errors.Invalid("--periods", fix)
    return decide.Settings(
        cluster_period_s=float(cluster_s),
        pool_period_s=float(pool_s),
        instance_period_s=float(instance_s),
        lookback_s=max(float(cluster_s), SHORTEST_LOOKBACK_S),
        rate_window_s=max(RATE_WINDOW_PERIODS * instance_s, 4.0 * run.telemetry_seconds),
    )


def _calendar(demand: sources.Demand, run: files.Run, slot_s: float) -> Calendar:
    """Return the calendar of a run: days pass as fast as its requests do, from the weekday on which the trace begins.

    Policies share it; the first one's trace says when moment 0 is.
    """
    day_s = calendars.DAY_S * demand.scale_time / run.compression
    begins = sources.BEGINS.get(demand.spec.source, sources.MONDAY)
    return calendars.near(slot_s, day_s=day_s, begins_s=begins * day_s)


def _startup_s(run: files.Run, options: Options) -> int:
    return run.startup_seconds if options.startup_s is None else options.startup_s


def _too_long(service: Service, truth: tuple[Profile, ...]) -> str:
    """Return in words how many requests no replica can hold: they are played, refused, and count as bad."""
    most = max(profile.kv_tokens for profile in truth)
    count = len(traces.beyond(service.requests, most))
    if not count:
        return ""
    return f", {count} of {len(service.requests)} refused (longer than the KV cache of any replica, {most:,} tokens)"


def _notes(
    run: files.Run, options: Options, settings: decide.Settings, *, rate: float, seed: int
) -> tuple[tuple[str, str], ...]:
    """Return what was shortened or chosen, for people: the report prints it."""
    periods = f"replicas {settings.cluster_period_s:g} s, clock {settings.instance_period_s:g} s"
    compressed = f"{run.compression} times faster, requests thinned so that rates stay the trace's"
    notes = [
        ("trace shape", compressed if run.compression != 1 else "as it is"),
        ("rates", "the trace's own" if rate == 1 else f"{rate:g} times the trace's, seed {seed}"),
        ("periods", f"{periods} (shipped: 1800 s and 5 s)"),
        ("start-up", f"{_startup_s(run, options)} s (measured on hardware: minutes)"),
        ("scrape interval", f"{run.telemetry_seconds} s, rates over {settings.rate_window_s:g} s"),
        ("clock response", str(options.clock_response or ClockResponse.NOMINAL)),
        ("not shortened", "engine steps, power timers, the clock"),
    ]
    if options.variant is not None and run.variants:
        notes.append(("variant", options.variant))
    if options.truth is not None:
        notes.append(("true physics", options.truth.name))
    if options.power_scale not in (None, 1.0):
        notes.append(("power scale", f"{options.power_scale:g} times the profile's watts"))
    return tuple(notes)


def _class_notes(services: Sequence[Service], options: Options) -> tuple[tuple[str, str], ...]:
    """Return what makes a class, and who says how long an answer will be."""
    edges = "; ".join(dict.fromkeys(classify.words(service.edges) for service in services))
    return ("classes", edges), ("output lengths", classify.predictor_words(options.guess))


def _nodes(fleet: files.Fleet, servers: int | None) -> Iterable[Node]:
    """Yield the nodes; `servers` replaces the count of the first group."""
    for index, group in enumerate(fleet.nodes):
        resized = group.model_copy(update={"count": servers}) if servers is not None and index == 0 else group
        for name in resized.node_names:
            yield Node(name, group.gpus, group.gpu_product, tuple(group.labels.items()))


def _policy(documents: Sequence[manifests.Document], key: str) -> Policy:
    for document in documents:
        if isinstance(document, v1alpha1.ServingPolicy) and document.key == key:
            asked = document.spec.priority
            granted = asked if asked is Priority.LOW or _admitted(documents, document) else Priority.LOW
            return convert.policy(document.manifest(), granted=granted)
    raise errors.Invalid("traces[].policy", f"there is no ServingPolicy {key} in the file; add it or correct the name")


def _admitted(documents: Sequence[manifests.Document], policy: v1alpha1.ServingPolicy) -> bool:
    """Return whether some domain admits the policy's namespace to high priority."""
    spaces = (d for d in documents if isinstance(d, files.Namespace) and d.name == policy.metadata.namespace)
    labels = next((space.metadata.labels for space in spaces), {})
    selectors = (d.spec.high_priority_namespaces for d in documents if isinstance(d, v1alpha1.PowerDomain))
    return any(selector is not None and selector.selects(labels) for selector in selectors)


def _domain(document: v1alpha1.PowerDomain, nodes: tuple[Node, ...], profile: Profile) -> Domain:
    """Return a domain with its nodes, armed where it asks for it and its safe setting fits."""
    selector = document.spec.node_selector
    inside = tuple(n for n in nodes if selector is not None and selector.selects(dict(n.labels)))
    unarmed = convert_power.power_domain(document.manifest(), tuple(n.name for n in inside))
    draw = profile.draw
    samples = readings.of(
        [NodeSample(n.name, Missing(Reason.NO_DATA), n.gpus * draw.limit_w, n.gpus, draw.min_limit_w) for n in inside]
    )
    admission = safety.admit(unarmed, samples)
    armed = document.spec.mode is Mode.ACT and admission.fits
    safe = admission.safe if armed else None
    return convert_power.power_domain(document.manifest(), unarmed.nodes, armed=armed, safe=safe)
