"""Image tables of the `datasets` library: local parquet files, or a data set of the Hugging Face hub by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from nas.errors import FileError, NasError, UsageError
from nas.supernet.data.base import ImageSet, Source, register_source
from nas.supernet.data.folder import to_tensor


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
    if "int" not in train.features[label].dtype or min(train[label]) < 0:
        raise UsageError(f"the column {label} of data {path!r} must hold whole numbers from 0; number the classes")
    names = getattr(train.features[label], "names", None)
    classes = tuple(names) if names else tuple(str(value) for value in range(max(train[label]) + 1))
    if empty := set(range(len(classes))) - set(train[label]):
        raise UsageError(
            f"class {classes[min(empty)]!r} of data {path!r} is empty: no row has the label {min(empty)}; add images of it, or "
            "number the others without gaps"
        )
    # Some data sets of the hub publish their test images without labels, each marked -1.
    labelled = (tables[part] for part in ("test", "validation") if part in tables and min(tables[part][label]) >= 0)
    test = next(labelled, None)
    return Source(_images(train, image, label, side), classes, None if test is None else _images(test, image, label, side))


def _images(table: Any, image: str, label: str, side: int) -> ImageSet:
    import datasets

    table = table.cast_column(image, datasets.Image())
    pixels = torch.stack([to_tensor(row, side) for row in table[image]])
    return ImageSet(pixels, torch.tensor(list(table[label]), dtype=torch.int64))
