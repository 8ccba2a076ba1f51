"""The API server behind `power.ports.Ledgers`: one PowerLedger per root domain, read and swapped whole."""

from __future__ import annotations

from capstan.adapters import errors
from capstan.adapters.kube import resources
from capstan.adapters.kube.client import KubeClient
from capstan.api import convert_ledger
from capstan.api import errors as api_errors
from capstan.app.power import caches
from capstan.power import ports
from capstan.powercap.ledger import Ledger


class Ledgers:
    """Implements `power.ports.Ledgers`. A GET without a version is answered from a quorum, never from a cache."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def read(self, root: str) -> ports.StoredLedger | None:
        """Return a root's ledger."""
        try:
            return _stored(await self._client.get(resources.LEDGERS, root))
        except errors.NotFound:
            return None
        except (errors.AdapterError, api_errors.Invalid) as problem:
            raise ports.Refused(f"PowerLedger {root}: {problem}") from problem

    async def swap(self, root: str, ledger: Ledger, version: str) -> ports.StoredLedger:
        """Replace a ledger at its version, or create the first."""
        document = convert_ledger.manifest(root, ledger)
        meta: dict[str, object] = {"name": root, **({"resourceVersion": version} if version else {})}
        document["metadata"] = meta
        try:
            return _stored(await (self._client.replace if version else self._client.create)(document))
        except (errors.AdapterError, api_errors.Invalid) as problem:
            raise ports.Refused(f"PowerLedger {root}: {problem}") from problem

    async def drop(self, root: str, version: str) -> None:
        """Delete a ledger at its version; one that is gone is what was wanted."""
        try:
            await self._client.delete(resources.LEDGERS, root, resource_version=version)
        except errors.NotFound:
            return
        except errors.AdapterError as problem:
            raise ports.Refused(f"PowerLedger {root}: {problem}") from problem


def _stored(raw: dict[str, object]) -> ports.StoredLedger:
    return ports.StoredLedger(convert_ledger.ledger(raw), caches.text(raw, "metadata", "resourceVersion"))
