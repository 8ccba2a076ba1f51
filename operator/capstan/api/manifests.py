"""Reading manifests: one raw object to its type, and a YAML file of many to a list of them.

Who calls it: `convert`, for what the API server sent; replay and tests, for files. A file may hold our kinds, the
scenario documents `Fleet`, `Run`, `Plant` and `Row`, and Namespaces (their labels admit High priority).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from capstan.api import errors, plant, row, scenario, system, v1alpha1
from capstan.api.meta import Resource

R = TypeVar("R", bound=Resource)
V = TypeVar("V", bound=BaseModel)
Scenario: TypeAlias = scenario.Fleet | scenario.Run | scenario.Namespace | system.System | plant.Plant | row.Row
Document: TypeAlias = Resource | Scenario

D = TypeVar("D", bound=Document)

MAX_FILE_BYTES = 4 * 2**20  # a scenario is a few kilobytes; a trace given by mistake is not worth parsing

_OURS: Mapping[str, type[Resource]] = {kind.NAMES.kind: kind for kind in v1alpha1.KINDS}
_OTHERS: Mapping[str, type[Scenario]] = {
    "Fleet": scenario.Fleet,
    "Run": scenario.Run,
    "Namespace": scenario.Namespace,
    "System": system.System,
    "Plant": plant.Plant,
    "Row": row.Row,
}


def parse(kind: type[R], manifest: Mapping[str, object]) -> R:
    """Return one object of a known kind; its status is not read (an older version of ours may have written it).

    Raises:
        Invalid: The field and the fix.
    """
    return _validated(kind, {key: value for key, value in manifest.items() if key != "status"})


def load(path: Path) -> list[Document]:
    """Return the objects of a YAML file, in its order; an object named twice is an error.

    Raises:
        Invalid: The file, the document, the field and the fix.
    """
    found = list(_documents(path))
    seen: dict[tuple[str, str], int] = {}
    for number, document in found:
        name = document.key if isinstance(document, Resource) else document.name
        before = seen.setdefault((document.kind, name), number)
        if before != number:
            where = f"{_place(path, number)}metadata.name"
            raise errors.Invalid(where, f"{document.kind} {name} is document {before} already; rename or remove one")
    return [document for _, document in found]


def only(documents: Sequence[Document], kind: type[D], path: Path) -> D:
    """Return the one document of a kind that a file holds.

    Raises:
        Invalid: The file holds none or several.
    """
    found = [document for document in documents if isinstance(document, kind)]
    if len(found) != 1:
        raise errors.Invalid(f"{path}", f"holds {len(found)} {kind.__name__} documents; write exactly one")
    return found[0]


def _documents(path: Path) -> Iterator[tuple[int, Document]]:
    """Yield (number from 1, object); an empty document between two separators does not count."""
    try:
        raw = _parsed(_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else f"{path}"
        problem = getattr(error, "problem", None) or "is not YAML"
        raise errors.Invalid(where, f"{problem}; correct the YAML") from None
    if not any(document is not None for document in raw):
        raise errors.Invalid(f"{path}", "holds no object; write at least one manifest")
    for number, document in enumerate(raw, 1):
        if document is not None:
            yield number, _typed(document, _place(path, number))


def _parsed(text: str) -> list[object]:
    """Return the raw documents of a YAML stream, as fast as can be; a bad one is read again, for the line at fault."""
    try:
        return list(yaml.load_all(text, Loader=_FastLoader))
    except yaml.YAMLError:  # libyaml names the line after
        return list(yaml.load_all(text, Loader=_Loader))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise errors.Invalid(f"{path}", f"is larger than {MAX_FILE_BYTES // 2**20} MiB; give a file of manifests")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise errors.Invalid(f"{path}", f"cannot be read ({error.strerror}); correct the path") from None
    except UnicodeDecodeError:
        raise errors.Invalid(f"{path}", "is not UTF-8 text; give a YAML file") from None


def _typed(document: object, place: str) -> Document:
    if not isinstance(document, Mapping):
        raise errors.Invalid(f"{place}object", "is no manifest; write apiVersion, kind, metadata and spec")
    kind = document.get("kind")
    model = _OURS.get(str(kind)) or _OTHERS.get(str(kind))
    if model is None:
        known = ", ".join([*_OURS, *_OTHERS])
        raise errors.Invalid(f"{place}kind", f"{kind!r} is not known here; use one of {known}, or remove the document")
    if issubclass(model, Resource):
        document = {key: value for key, value in document.items() if key != "status"}
    return _validated(model, document, place)


def _validated(model: type[V], raw: Mapping[str, object], place: str = "") -> V:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise errors.of_validation(error, place) from None


def _place(path: Path, number: int) -> str:
    return f"{path}, document {number}: "


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that refuses a key written twice, as `kubectl apply` does."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[object, object]:
    loader.flatten_mapping(node)
    made: dict[object, object] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in made:
            raise yaml.constructor.ConstructorError(problem=f"{key} is written twice", problem_mark=key_node.start_mark)
        made[key] = loader.construct_object(value_node, deep=True)
    return made


# libyaml's parser where PyYAML was built with it: a folder of profiles in a tenth of the time.
_FastLoader: type[yaml.SafeLoader] = type("_FastLoader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})

for _each in (_Loader, _FastLoader):
    _each.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
