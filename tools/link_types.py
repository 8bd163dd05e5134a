"""Lay the packages out as `build/types/nas/...` by links, for type checkers to see them as they are imported."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Make the link tree anew."""
    tree = ROOT / "build" / "types"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    with (ROOT / "pyproject.toml").open("rb") as file:
        folders = tomllib.load(file)["tool"]["setuptools"]["package-dir"]
    (tree / "nas").mkdir()
    for path in (ROOT / folders["nas"]).iterdir():
        (tree / "nas" / path.name).symlink_to(path)
    for name, folder in folders.items():
        if name.count(".") == 1:
            (tree / "nas" / name.split(".")[1]).symlink_to(ROOT / folder)


if __name__ == "__main__":
    main()
