"""The API server as the power loop sees it: what it stores, and when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from capstan.api import convert_ledger
from capstan.power import ports
from capstan.powercap.ledger import Ledger

Raw = dict[str, Any]
"""An object as the API server has it: what is inside which key is for the test to say."""


@dataclass
class Api:
    """Records writes; `down` refuses them. What it stores is what the next scene shows."""

    scene_: ports.Scene
    caps: dict[str, list[Raw]] = field(default_factory=dict)
    statuses: list[Raw] = field(default_factory=list)
    events: list[ports.Transition] = field(default_factory=list)
    down: bool = False
    refused: set[str] = field(default_factory=set)
    versions: int = 0
    granted: Callable[[str, Raw], None] = lambda node, power: None

    @property
    def domains(self) -> tuple[Raw, ...]:
        """The PowerDomains that are stored."""
        return self.scene_.domains

    def scene(self) -> ports.Scene:
        """Return what is stored."""
        return self.scene_

    async def node_cap(self, document: Raw) -> None:
        """Store a NodeCap."""
        self._refuse()
        name = document["metadata"]["name"]
        if name in self.refused:
            raise ports.Refused(f"NodeCap {name} is not valid")
        seen = document["metadata"].get("resourceVersion", "")
        before = self.scene_.node_powers.get(name)
        if seen and before is not None and seen != before.version:
            raise ports.Refused(f"NodeCap {name} moved on")
        power = document["spec"]["power"]
        self.caps.setdefault(name, []).append(power)
        assert power.get("caps", True), "a real API server refuses an applied `caps: {}` once it held caps of ours"
        self.versions += 1
        stored = ports.NodePower(power["epoch"], power["sequence"], power, str(self.versions))
        self.granted(name, power)
        self.scene_ = replace(self.scene_, node_powers={**self.scene_.node_powers, name: stored})

    async def status(self, domain_: Raw, made: Raw) -> None:
        """Store a status."""
        self._refuse()
        self.statuses.append(made)
        name = domain_["metadata"]["name"]
        domains = [{**d, "status": made} if d["metadata"]["name"] == name else d for d in self.domains]
        self.scene_ = replace(self.scene_, domains=tuple(domains))

    async def finalizer(self, domain_: Raw, *, present: bool) -> None:
        """Put our finalizer on, or take it away; one that is deleted and has none left is gone."""
        self._refuse()
        name = domain_["metadata"]["name"]
        kept = []
        for d in self.domains:
            meta = dict(d["metadata"])
            if meta["name"] == name:
                meta["finalizers"] = ["capstan.dev/power"] if present else []
                if not present and meta.get("deletionTimestamp"):
                    continue
            kept.append({**d, "metadata": meta})
        self.scene_ = replace(self.scene_, domains=tuple(kept))

    def delete(self, name: str) -> None:
        """Delete a domain as the API server does: at once, or where a finalizer is on it, once that is gone."""
        left = []
        for d in self.domains:
            meta = d["metadata"]
            assert isinstance(meta, dict)
            if meta["name"] != name:
                left.append(d)
            elif meta.get("finalizers"):
                left.append({**d, "metadata": {**meta, "deletionTimestamp": "2026-01-01T00:00:00Z"}})
        self.scene_ = replace(self.scene_, domains=tuple(left))

    async def event(self, transition: ports.Transition) -> None:
        """Keep an event."""
        self._refuse()
        self.events.append(transition)

    def edit(self, *domains: Raw) -> None:
        """Put new specs, as kubectl apply does: status stays, the generation rises."""
        before = {d["metadata"]["name"]: d for d in self.domains}
        merged = []
        for new in domains:
            old = before.get(new["metadata"]["name"], {})
            meta: dict[str, object] = {}
            for version in (old, new):
                meta |= version.get("metadata", {})
            merged.append({**new, "metadata": meta, **({"status": old["status"]} if "status" in old else {})})
        self.scene_ = replace(self.scene_, domains=tuple(merged))

    def adopt(self, node: str, *, epoch: int, sequence: int) -> None:
        """Let another leader have written a NodeCap."""
        power = {**self.scene_.node_powers[node].document, "epoch": epoch, "sequence": sequence}
        self.versions += 1
        theirs = {node: ports.NodePower(epoch, sequence, power, str(self.versions))}
        self.scene_ = replace(self.scene_, node_powers={**self.scene_.node_powers, **theirs})

    def _refuse(self) -> None:
        if self.down:
            raise ports.Refused("the API server is down")


@dataclass
class Ledgers:
    """PowerLedgers by root as the API server stores them: each through its manifest, each swap at its version."""

    api: Api
    stored: dict[str, ports.StoredLedger] = field(default_factory=dict)
    swaps: int = 0
    lost: bool = False  # the answer of the next swap is lost on its way: it is stored all the same

    async def read(self, root: str) -> ports.StoredLedger | None:
        """Return what is stored."""
        self._refuse()
        return self.stored.get(root)

    async def swap(self, root: str, ledger: Ledger, version: str) -> ports.StoredLedger:
        """Store a ledger at its version."""
        self._refuse()
        before = self.stored.get(root)
        if version != ("" if before is None else before.version):
            raise ports.Refused(f"{root} moved on")
        self.swaps += 1
        kept = convert_ledger.ledger(convert_ledger.manifest(root, ledger))
        self.stored[root] = ports.StoredLedger(kept, str(self.swaps))
        if self.lost:
            self.lost = False
            raise ports.Refused("no answer in time")
        return self.stored[root]

    async def drop(self, root: str, version: str) -> None:
        """Delete a ledger at its version."""
        self._refuse()
        if self.stored[root].version != version:
            raise ports.Refused(f"{root} moved on")
        del self.stored[root]

    def _refuse(self) -> None:
        if self.api.down:
            raise ports.Refused("the API server is down")
