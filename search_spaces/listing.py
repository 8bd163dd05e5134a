"""What is registered, as plain data: read from the index beside the operators where that is current, so without torch."""

from __future__ import annotations

import json
from hashlib import blake2b
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from nas.search_spaces.registry import ENTRY_POINTS, Operator, operators

FOLDER = Path(__file__).parent / "operators"
INDEX = FOLDER / "index.json"


def listing() -> list[dict[str, Any]]:
    """One mapping for each registered operator: name, kind, group, family, settings, optional, summary, cite.

    The index is trusted only where its digest is that of the operators' files and no other package announces operators.
    """
    if INDEX.exists() and not entry_points(group=ENTRY_POINTS):
        found = json.loads(INDEX.read_text(encoding="utf-8"))
        if found["digest"] == sources_digest():
            rows: list[dict[str, Any]] = found["operators"]
            return rows
    return [as_mapping(op) for op in operators()]


def as_mapping(op: Operator) -> dict[str, Any]:
    """An operator as plain data. `optional` holds the defaults of the settings that may be left out."""
    return {
        "name": op.name,
        "kind": op.kind.value,
        "group": op.group.value,
        "family": op.family,
        "settings": {name: list(setting.choices) for name, setting in op.settings.items()},
        "optional": {name: setting.default for name, setting in op.settings.items() if setting.default is not None},
        "summary": op.summary,
        "cite": op.cite,
    }


def index() -> str:
    """The text of an index that is current."""
    rows = [as_mapping(op) for op in operators() if op.module.__module__.startswith("nas.")]
    return json.dumps({"digest": sources_digest(), "operators": rows}, indent=1, ensure_ascii=False) + "\n"


def sources_digest() -> str:
    """32 hexadecimal characters over the names and contents of all files that define operators."""
    digest = blake2b(digest_size=16)
    for path in sorted((*FOLDER.rglob("*.py"), FOLDER.parent / "registry.py")):
        digest.update(path.relative_to(FOLDER.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
