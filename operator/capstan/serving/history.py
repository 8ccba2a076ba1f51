"""Whose past is asked for: the engine pods of a policy, those of today and those that are long gone.

Who calls it: `cycle`. Pods of a Deployment are `NAME-HASH-XXXXX`; where the name is so long that Kubernetes cuts it,
whatever begins with it counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from capstan.model.past import Ask, Past
from capstan.serving import manifest
from capstan.serving.view import View

# A generated name keeps 58 characters before its five random ones; `-HASH-` of a ReplicaSet takes 12 of them.
WHOLE_NAME_CHARS = 46
OWN_SUFFIX_CHARS = len("-tp64")


def ask(view: View) -> Ask:
    """Return what to ask for one policy: its targets' pods, else those of its Deployments of any degree."""
    namespace, name = manifest.text(view.raw, "metadata", "namespace"), manifest.text(view.raw, "metadata", "name")
    if view.targeted:
        workloads = sorted(pool.workload_key.partition("/")[2] for pool in view.pools)
        return Ask(view.key, namespace, "|".join(_pods(w, len(w)) for w in workloads))
    return Ask(view.key, namespace, _pods(f"{name}-tp[0-9]+", len(name) + OWN_SUFFIX_CHARS))


class Nothing:
    """Remembers nothing: a world without Prometheus. Implements `ports.History`."""

    problem = ""

    def follow(self, asks: Iterable[Ask]) -> None:
        """Forget what was asked."""

    def past(self, ask: Ask) -> Past | None:
        """Return that nothing was read."""


def _pods(workload: str, chars: int) -> str:
    """Return the expression for the pods of a workload whose name has `chars` characters."""
    literal = workload.replace(".", "[.]")
    return f"{literal}-[a-z0-9]+-[a-z0-9]{{5}}" if chars <= WHOLE_NAME_CHARS else f"{literal}-.*"
