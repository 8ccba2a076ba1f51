"""What a comparison leaves for people and programs: `report.html`, one page without a network, and `report.json`.

Who calls it: `app.replay` and the demo. Must not know: where a run came from beyond what `Run` says.

Both files are written beside their final name and renamed, so a reader finds a whole report or none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from capstan.replay.pages import document, page
from capstan.replay.scores.compare import Comparison

HTML_NAME, JSON_NAME = "report.html", "report.json"


def prepare(out_dir: Path) -> None:
    """Make the folder and see that it can be written, before hours are spent on what is to lie there.

    Raises:
        OSError: It cannot; the caller names the option.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    replace(out_dir / ".writable", "")
    (out_dir / ".writable").unlink()


def write(comparison: Comparison, out_dir: Path) -> Path:
    """Write the report and return the page's path.

    Raises:
        OSError: `out_dir` cannot be written; what was there before stays whole.
    """
    return put(out_dir, document.of(comparison), page.of(comparison))


def put(out_dir: Path, figures: Mapping[str, object], html: str, stem: str = "report") -> Path:
    """Write `stem.json` and `stem.html`, and return the page's path.

    Both are whole before the first is renamed: a page that cannot be made leaves no new numbers either.

    Raises:
        OSError: `out_dir` cannot be written; what was there before stays whole.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    page_path = out_dir / f"{stem}.html"
    replace(out_dir / f"{stem}.json", json.dumps(figures, indent=2, allow_nan=False) + "\n")
    replace(page_path, html)
    return page_path


def replace(path: Path, text: str) -> None:
    """Write `text` under `path` whole or not at all; the temporary file never outlives a failure."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
