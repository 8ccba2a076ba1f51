"""Invalid objects as a file reader sees them; the API server's half is tests/integration/test_invalid_objects.py."""

from __future__ import annotations

import re

import pytest

from capstan.api import crdgen, errors, manifests, meta, v1alpha1
from support import api

BY_NAME = {kind.NAMES.kind: kind for kind in v1alpha1.KINDS}


@pytest.mark.parametrize("case", api.INVALID, ids=lambda case: case.why)
def test_a_file_reader_names_the_field_and_the_fix(case: api.Invalid) -> None:
    manifest = case.manifest()
    with pytest.raises(errors.Invalid) as caught:
        manifests.parse(BY_NAME[str(manifest["kind"])], manifest)
    assert case.field in caught.value.field
    assert case.fix in caught.value.fix
    assert "; " in caught.value.fix, "a message says what is wrong and what to do"


@pytest.mark.parametrize("base", ["policy", "targets", "domain", "profile", "cap"])
def test_what_the_table_changes_is_valid_before(base: str) -> None:
    """Else a case could be refused for another reason than its own."""
    manifest = api.Invalid("unchanged", base, {}, "").manifest()
    manifests.parse(BY_NAME[str(manifest["kind"])], manifest)


def test_the_table_is_long_enough_and_tells_its_cases_apart() -> None:
    assert len(api.INVALID) >= 25
    assert len({case.why for case in api.INVALID}) == len(api.INVALID)


def messages(schema: crdgen.Schema) -> set[str]:
    """Return the texts of all rules in a schema."""
    found = set(re.findall(r"'message': (?:'([^']*)'|\"([^\"]*)\")", str(schema)))
    return {single or double for single, double in found}


@pytest.mark.parametrize("kind", v1alpha1.KINDS, ids=lambda kind: kind.__name__)
def test_every_rule_has_an_object_that_breaks_it(kind: type[meta.Resource]) -> None:
    """So each rule's CEL is seen to refuse on the real API server, where the same table runs."""
    broken = set()
    for case in api.INVALID:
        manifest = case.manifest()
        with pytest.raises(errors.Invalid) as caught:
            manifests.parse(BY_NAME[str(manifest["kind"])], manifest)
        broken.add(caught.value.fix)
    texts = messages(crdgen.schema(kind))
    assert texts
    assert [text for text in sorted(texts) if text.partition(": ")[2] not in broken] == []
