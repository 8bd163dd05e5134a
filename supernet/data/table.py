"""Image tables of the `datasets` library: local parquet files, or a data set of the Hugging Face hub by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nas.errors import FileError, UsageError
from nas.supernet.data.base import ImageSet, Source, register_source
from nas.supernet.data.folder import to_tensor


@register_source("parquet")
def parquet(path: str, side: int) -> Source:
    """One parquet file, or a folder with train*.parquet and test*.parquet; columns `image` (or `img`) and `label`."""
    import datasets

    root = Path(path)
    files = {part: sorted(map(str, root.glob(f"{part}*.parquet"))) for part in ("train", "test")} if root.is_dir() else {}
    files = {part: found for part, found in files.items() if found} or ({"train": [path]} if root.is_file() else {})
    if "train" not in files:
        raise UsageError(f"no parquet file at {path!r}; write --data parquet:FILE or a folder with train*.parquet")
    try:
        return _source(datasets.load_dataset("parquet", data_files=files), path, side)
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise FileError(f"cannot read parquet data {path}: {' '.join(str(error).split())}") from error


@register_source("hub")
def hub(path: str, side: int) -> Source:
    """A data set of the hub by name (`hub:uoft-cs/cifar10`), downloaded by the `datasets` library."""
    import datasets

    if not path:
        raise UsageError("data source 'hub' needs a name; write --data hub:OWNER/NAME")
    try:
        return _source(datasets.load_dataset(path), path, side)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise FileError(f"cannot load data set {path!r} from the hub: {' '.join(str(error).split())[:200]}") from error


def _source(tables: Any, path: str, side: int) -> Source:
    train = tables["train"]
    image = next((name for name in ("image", "img") if name in train.column_names), None)
    label = next((name for name in ("label", "labels", "fine_label") if name in train.column_names), None)
    if image is None or label is None:
        raise UsageError(f"data {path!r} needs the columns image and label, has {', '.join(train.column_names)}")
    names = getattr(train.features[label], "names", None)
    classes = tuple(names) if names else tuple(str(value) for value in range(max(train[label]) + 1))
    test = next((tables[part] for part in ("test", "validation") if part in tables), None)
    return Source(_images(train, image, label, side), classes, None if test is None else _images(test, image, label, side))


def _images(table: Any, image: str, label: str, side: int) -> ImageSet:
    import datasets

    table = table.cast_column(image, datasets.Image())
    pixels = torch.stack([to_tensor(row, side) for row in table[image]])
    return ImageSet(pixels, torch.tensor(list(table[label]), dtype=torch.int64))
