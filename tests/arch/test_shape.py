"""The shape of the house: what a reader may rely on without opening a file."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import capstan

CORE = ("capstan.units", "capstan.model", "capstan.forecast", "capstan.optimize", "capstan.powercap", "capstan.decide")
SUFFIXES = (
    "_s", "_w", "_j", "_mhz", "_rps", "_tokens", "_ratio", "_usage", "_bytes", "_per_s", "_per_token", "_per_flop",
    "_per_token_s", "_per_token2_s", "_per_sequence_s", "_per_output_token", "_long_s",
)  # fmt: skip
MOST_LINES = 400  # of a file: past it, it is split by concept (house style, rule 4)
UNITLESS = {"gamma", "bend", "batch", "sequences"}  # two exponents, mean counts of sequences


def core_modules() -> Iterator[str]:
    for name in CORE:
        module = importlib.import_module(name)
        yield name
        for found in pkgutil.walk_packages(getattr(module, "__path__", []), prefix=f"{name}."):
            yield found.name


def float_fields() -> Iterator[tuple[str, str]]:
    for name in core_modules():
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == name:
                for field in dataclasses.fields(value):
                    if str(field.type) in {"float", "float | None", "Sample[float]"}:
                        yield f"{name}.{value.__name__}", field.name


@pytest.mark.parametrize(("owner", "field"), sorted(set(float_fields())), ids=lambda value: str(value))
def test_every_float_of_the_core_names_its_unit(owner: str, field: str) -> None:
    counts = {"running", "waiting", "sample_requests", "tokens", "context_tokens"}  # numbers of things
    assert field.endswith(SUFFIXES) or field in UNITLESS | counts, f"{owner}.{field}: add the unit, e.g. {field}_s"


def test_the_operator_folder_never_becomes_a_package(root: Path) -> None:
    """An `operator/__init__.py` would shadow the standard library's `operator`."""
    assert sorted(path.name for path in (root / "operator").glob("*.py")) == []


def test_every_module_says_what_it_is_for() -> None:
    silent = []
    for found in pkgutil.walk_packages(capstan.__path__, prefix="capstan."):
        source = importlib.util.find_spec(found.name)
        assert source is not None
        assert source.origin is not None
        text = Path(source.origin).read_text(encoding="utf-8").lstrip()
        if not text.startswith('"""'):
            silent.append(found.name)
    assert silent == []


def test_no_file_of_the_product_or_its_rig_is_longer_than_a_sitting(root: Path) -> None:
    sizes = {
        str(path.relative_to(root)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in ("operator", "e2e")
        for path in (root / folder).rglob("*.py")
    }
    assert {name: lines for name, lines in sizes.items() if lines > MOST_LINES} == {}


def test_the_lock_files_name_no_index(root: Path) -> None:
    for name in ("requirements.lock", "requirements-image.lock"):
        text = (root / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert "find-links" not in text


def test_the_image_carries_no_laptop_tools(root: Path) -> None:
    """The operator's image stays small: replay's and the developers' packages are not in its lock.

    numpy is: HiGHS, which chooses the mix of degrees, does not come without it.
    """
    text = (root / "requirements-image.lock").read_text(encoding="utf-8")
    names = {line.split("==")[0] for line in text.splitlines() if "==" in line and not line.startswith(" ")}
    assert names.isdisjoint({"scipy", "matplotlib", "kubernetes", "pytest", "numba", "prometheus-api-client", "rich"})
