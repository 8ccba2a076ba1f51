"""The one error of this room: an object that cannot be used, with the field and the fix.

Invalid
    a field is missing, out of range, misspelled, contradicts another, or asks for what this version does not do
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

RULE = "capstan_rule"  # pydantic's error type for a broken Rule (schema.py); its context holds field and fix

_FIXES = {
    "missing": "is required; add it",
    "extra_forbidden": "is no field of this kind; remove it or correct its spelling",
    "int_type": "must be a whole number; write it without quotes and without a fraction",
    "bool_type": "must be true or false; write it without quotes",
    "string_type": "must be text; put it in quotes",
    "datetime_from_date_parsing": "must be a time with a zone; write it like 2026-11-21T18:00:00Z",
    "timezone_aware": "must be a time with a zone; write it like 2026-11-21T18:00:00Z",
    "model_type": "must be a mapping of fields; indent its fields below it",
    "dict_type": "must be a mapping; write key: value pairs below it",
    "list_type": "must be a list; start each item with a dash",
    "tuple_type": "must be a list; start each item with a dash",
    "union_tag_not_found": "says no kind; add one",
}
"""Fixes for what pydantic says in a developer's words; its other messages already name the limit."""


class Invalid(ValueError):  # noqa: N818 - reads as the condition's word: the spec is invalid
    """An object that cannot be used. `str()` is `<field>: <fix>`; `field` is a path such as `spec.bounds.maxGPUs`."""

    def __init__(self, field: str, fix: str) -> None:
        self.field, self.fix = field, fix
        super().__init__(f"{field}: {fix}")


def of_validation(error: ValidationError, prefix: str = "") -> Invalid:
    """Return pydantic's first error as ours; `prefix` says where the object stands (a file, a document)."""
    first = error.errors(include_url=False)[0]
    context: Mapping[str, object] = first.get("ctx", {})
    field, fix = _path(first["loc"]), _FIXES.get(first["type"], "")
    if first["type"] == RULE:
        field = ".".join(part for part in (field, str(context["field"])) if part)
        fix = str(context["fix"])
    if not fix:
        fix = f"{first['msg'].replace('Input should', 'must').replace('String should', 'must')}; correct the value"
    return Invalid(f"{prefix}{field or 'object'}", fix)


def _path(loc: tuple[int | str, ...]) -> str:
    """Return `spec.targets[1].tensorParallel` for ("spec", "targets", 1, "tensorParallel")."""
    path = ""
    for before, part in zip((None, *loc), loc, strict=False):
        if isinstance(before, int) and isinstance(part, str) and part[:1].isupper():
            continue  # the kind of an item, which is no field
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")
