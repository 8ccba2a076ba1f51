"""What the profiles of a scenario were fitted to, so that a set-up beyond it is said to be extrapolated.

Who calls it: `app.search`. Must not know: set-ups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from capstan.api import manifests, v1alpha1
from capstan.api.servingprofile import Span
from capstan.model.profile import Profile
from capstan.replay import load
from capstan.replay.setups.screen import Measured


def of(loaded: load.Loaded, profiles: Iterable[Profile]) -> Mapping[int, Measured]:
    """Return the valid range of each profile by its tp, as its ServingProfile states it."""
    folder = loaded.options.profiles or load.policies_of(loaded.path) / "profiles"
    shipped = (document for path in sorted(folder.glob("*.yaml")) for document in manifests.load(path))
    documents = [d for d in (*loaded.documents, *shipped) if isinstance(d, v1alpha1.ServingProfile)]
    ranges = {document.metadata.name: document.spec.valid_range for document in reversed(documents)}
    found = {}
    for profile in profiles:
        known = ranges.get(profile.name)
        if known is not None:
            found[profile.tp] = Measured(_most(known.batch), _most(known.prompt_tokens))
    return found


def _most(span: Span | None) -> int | None:
    return None if span is None else int(span.max)
