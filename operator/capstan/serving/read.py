"""Our own kinds as values of the core; each object is parsed once per version, not once per cycle.

Who calls it: `cycle`. An object that cannot be read is a message, never an exception: the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from capstan.api import convert, errors
from capstan.model.policy import Policy, Priority
from capstan.model.profile import Profile
from capstan.serving import followed, manifest
from capstan.serving.followed import Followed
from capstan.serving.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Unread:
    """A policy whose spec cannot be used; `message` names the field and the fix."""

    raw: Manifest
    message: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A policy as it can be followed: its priority is still only asked for."""

    raw: Manifest
    followed: Followed
    priority: Priority

    def granted(self, priority: Priority) -> Policy:
        """Return the policy with the priority in force."""
        policy = self.followed.policy
        return policy if priority is policy.priority else replace(policy, priority=priority)


class Reader:
    """Parses manifests and keeps the result while uid and generation stay."""

    def __init__(self) -> None:
        self._policies: dict[tuple[str, int], tuple[Followed, Priority] | str] = {}
        self._profiles: dict[tuple[str, int], Profile | str] = {}

    def policies(self, raws: Iterable[Manifest]) -> tuple[tuple[Asked, ...], tuple[Unread, ...]]:
        """Return the policies that can be read, and those that cannot."""
        of = tuple(raws)
        self._policies = {_version(raw): self._policies.get(_version(raw)) or _policy(raw) for raw in of}
        asked, unread = [], []
        for raw in of:
            match self._policies[_version(raw)]:
                case str() as message:
                    unread.append(Unread(raw, message))
                case found, priority:
                    asked.append(Asked(raw, found, priority))
        return tuple(asked), tuple(unread)

    def profiles(self, raws: Iterable[Manifest]) -> tuple[Profile, ...]:
        """Return the profiles that can be read, ordered by name; what cannot be read covers nothing."""
        of = tuple(raws)
        self._profiles = {_version(raw): self._profiles.get(_version(raw)) or _profile(raw) for raw in of}
        found = (p for p in self._profiles.values() if isinstance(p, Profile))
        return tuple(sorted(found, key=lambda p: p.name))


def _version(raw: Manifest) -> tuple[str, int]:
    return manifest.text(raw, "metadata", "uid"), manifest.number(raw, "metadata", "generation") or 0


def _policy(raw: Manifest) -> tuple[Followed, Priority] | str:
    try:
        return followed.live(convert.policy(raw)), convert.asked_priority(raw)
    except (errors.Invalid, ValueError) as problem:
        return str(problem)


def _profile(raw: Manifest) -> Profile | str:
    try:
        return convert.profile(raw)
    except (errors.Invalid, ValueError) as problem:
        return str(problem)
