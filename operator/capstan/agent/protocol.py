"""The setter's lines, read: one JSON object each, every field checked before anything is done.

Who calls it: `setter`. A line is at most `MAX_LINE_BYTES` long; what is odd is `Malformed`, with the field and the fix.
"""

from __future__ import annotations

import json

from capstan.agent.ports import Failed

MAX_LINE_BYTES = 4096
LARGEST = 1e6  # megahertz or watts: above any board, below what a float or the driver's integers could trip over
VERBS = ("clock", "limit", "reset", "devices", "safe")

Answer = dict[str, object]


def parsed(line: bytes) -> Answer:
    """Return the object of a line whose verb is known. Raises Failed."""
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError) as problem:  # 4 KiB hold brackets enough to exhaust the parser's stack
        raise Failed("Malformed", "the line is not JSON") from problem
    if not isinstance(asked, dict):
        raise Failed("Malformed", "a line is one JSON object")
    verb = asked.get("verb")
    if not isinstance(verb, str) or verb not in VERBS:
        raise Failed("UnknownVerb", f"{verb!r} is none of {', '.join(VERBS)}")
    return asked


def uuid(asked: Answer) -> str:
    """Return the GPU that a line names. Raises Failed."""
    named = asked.get("uuid")
    if not isinstance(named, str) or not named:
        raise Failed("Malformed", "uuid: name the GPU")
    return named


def number(asked: Answer, name: str) -> float | None:
    """Return a number above zero, or None where the field is null or missing. Raises Failed."""
    value = asked.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
        raise Failed("Malformed", f"{name}: give a number above 0 and up to {LARGEST:.0f}")
    return float(value)
