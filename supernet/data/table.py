"""Image tables of the `datasets` library: local parquet files, or a data set of the Hugging Face hub by name."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas.errors import FileError, NasError, UsageError
from nas.supernet.data.base import ImageSet, Source, register_source
from nas.supernet.data.pixels import decoded

_NAMED = 5
"""So many classes are named in one line."""


@register_source("parquet")
def parquet(path: str, side: int) -> Source:
    """One parquet file, or a folder with train*.parquet and test*.parquet; columns `image` (or `img`) and `label`."""
    root = Path(path)
    files = {part: sorted(map(str, root.glob(f"{part}*.parquet"))) for part in ("train", "test")} if root.is_dir() else {}
    files = {part: found for part, found in files.items() if found} or ({"train": [path]} if root.is_file() else {})
    if "train" not in files:
        raise UsageError(f"no parquet file at {path!r}; write --data parquet:FILE or a folder with train*.parquet")
    return _loaded(path, side, "parquet", data_files=files)


@register_source("hub")
def hub(path: str, side: int) -> Source:
    """A data set of the hub by name (`hub:uoft-cs/cifar10`), downloaded by the `datasets` library."""
    if not path:
        raise UsageError("data source 'hub' needs a name; write --data hub:OWNER/NAME")
    return _loaded(path, side, path)


def _loaded(path: str, side: int, *arguments: Any, **options: Any) -> Source:
    import datasets

    # What goes wrong is raised and told in one line; the library would log it besides, and draw bars into log files.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        return _source(datasets.load_dataset(*arguments, **options), path, side)
    except NasError:
        raise
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FileError(f"cannot read the data {path!r}: {reason}; check the name and the files") from error


def _source(tables: Any, path: str, side: int) -> Source:
    if "train" not in tables:
        raise UsageError(f"data {path!r} has no split named train, but {', '.join(tables)}; choose another data set")
    train = tables["train"]
    image = next((name for name in ("image", "img") if name in train.column_names), None)
    label = next((name for name in ("label", "labels", "fine_label") if name in train.column_names), None)
    if image is None or label is None:
        raise UsageError(f"data {path!r} needs the columns image and label, has {', '.join(train.column_names)}")
    for part in ("train", "test", "validation"):
        if part in tables and label in tables[part].column_names and None in (labels := list(tables[part][label])):
            raise UsageError(f"row {labels.index(None)} of {part} of data {path!r} has no {label}; remove it, or give it one")
    if "int" not in train.features[label].dtype or min(train[label]) < 0:
        raise UsageError(f"the column {label} of data {path!r} must hold whole numbers from 0; number the classes")
    # Some data sets of the hub publish their test images without labels, each marked -1.
    labelled = (tables[part] for part in ("test", "validation") if part in tables and min(tables[part][label]) >= 0)
    test = next(labelled, None)
    names = getattr(train.features[label], "names", None)
    used, tested = set(train[label]), set[int]() if test is None else set(test[label])
    classes = _declared(names, used | tested, path) if names else _numbered(used, tested, path)
    remarks = tuple(_unused(classes, used, tested, path)) if names else ()
    try:
        held = None if test is None else _images(test, image, label, side)
        return Source(_images(train, image, label, side), classes, held, remarks=remarks)
    except FileError as error:
        raise FileError(f"data {path!r}: {error}") from error


def _declared(names: Sequence[str], labels: set[int], path: str) -> tuple[str, ...]:
    """The classes that the table's features name. Raises UsageError for a label without a name."""
    if max(labels) >= len(names):
        raise UsageError(f"data {path!r} names {len(names)} classes but has the label {max(labels)}; name them all")
    return tuple(names)


def _numbered(used: set[int], tested: set[int], path: str) -> tuple[str, ...]:
    """Nameless classes. Raises UsageError where a number below the largest has no training image: most likely a mistake."""
    empty = next(label for label in itertools.count() if label not in used)
    if empty <= max(used | tested):
        raise UsageError(
            f"class '{empty}' of data {path!r} is empty: no training image has the label {empty}; add images of it, "
            "or number the others without gaps"
        )
    return tuple(str(value) for value in range(max(used) + 1))


def _unused(classes: tuple[str, ...], used: set[int], tested: set[int], path: str) -> Iterator[str]:
    """What to say of classes that have a name but no training image: some data sets declare more than they show."""
    missing = sorted(set(range(len(classes))) - used)
    if missing:
        named = ", ".join(repr(classes[index]) for index in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        wrong = "; test images of them count as wrong" if tested.intersection(missing) else ""
        yield (
            f"{len(missing)} of the {len(classes)} classes of data {path!r} have no training images ({named}): the networks "
            f"keep an output for each{wrong}; add images, or take the names out of the features of the label column"
        )


def _images(table: Any, image: str, label: str, side: int) -> ImageSet:
    import datasets

    kind = datasets.Image()
    cells = enumerate(table.cast_column(image, datasets.Image(decode=False))[image])
    opened = ((f"the {image} of row {row}", partial(kind.decode_example, cell)) for row, cell in cells)
    return ImageSet(decoded(opened, len(table), side), torch.tensor(list(table[label]), dtype=torch.int64))
