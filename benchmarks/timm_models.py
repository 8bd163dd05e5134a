"""Amounts of timm's models by operation, for tables that only name them: benchmarks/data/timm_models.csv.gz.

    python benchmarks/timm_models.py --tables DIR [--out FILE]

Builds every model that a table of the folder names, without weights and on tensors without data, and writes down what its
forward pass runs: counts, multiply-adds and elements by class of operation (see nas.predictors.tables.models.amounts). What
the file holds already is kept, so that a run that was stopped goes on. Needs timm; half an hour for a thousand models on one
busy core.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from nas.predictors.tables import SUFFIXES
from nas.predictors.tables.columns import read_frame
from nas.predictors.tables.models.catalogue import SHIPPED, Key, read_catalogue, traced, write_catalogue
from nas.predictors.tables.models.reading import keys_of, names_models

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from timm_models import timm

KEEP_EVERY = 50


def main() -> None:
    """Trace what is missing, keeping what there is now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    known = read_catalogue(options.out) if options.out.exists() else {}
    missing = sorted(named(options.tables) - known.keys())
    for number, key in enumerate(missing, 1):
        found = traced(timm, *key)
        if found is None:
            sys.stderr.write(f"left out: {key[0]} at {key[1]}\n")
        else:
            known[key] = found
        if number % KEEP_EVERY == 0 or number == len(missing):
            write_catalogue(options.out, known)
            sys.stderr.write(f"{number} of {len(missing)}\n")


def named(folder: Path) -> set[Key]:
    """The networks that the tables of a folder name, and the image sizes."""
    found: set[Key] = set()
    for path in sorted(file for file in folder.iterdir() if file.name.endswith(SUFFIXES)):
        frame = read_frame(path)
        if names_models([str(column) for column in frame.columns]):
            found |= set(keys_of(frame))
    return found


if __name__ == "__main__":
    main()
