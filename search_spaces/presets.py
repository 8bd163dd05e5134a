"""The presets, and reading a space from a name or a YAML file that overrides one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from nas.errors import SpaceError, UnknownNameError
from nas.files import read_text
from nas.search_spaces.space import SearchSpace

ALL_MIXERS = (
    "depthwise_conv",
    "mbconv",
    "pooling",
    "gated_conv",
    "global_filter",
    "window_attention",
    "neighbourhood_attention",
    "spatial_reduction_attention",
    "linear_attention",
    "global_attention",
)
RULES = ("free", "per_stage", "conv_then_attention", "alternate")
CHANNEL_MIXERS = ("mlp", "conv_mlp", "gated_mlp")
PARTNERS = ("depthwise_conv", "pooling", "linear_attention", "spatial_reduction_attention")


def tiny() -> SearchSpace:
    """32-pixel images; supernet and search take CPU minutes."""
    return SearchSpace(
        name="tiny",
        resolutions=(32,),
        stems=("overlap", "conv"),
        stem_stride=2,
        downsamples=("conv", "average"),
        norms=("layer", "batch"),
        depths=((1, 2), (1, 2, 3, 4), (1, 2, 3, 4, 6)),
        widths=((16, 24, 32), (32, 48, 64), (64, 96, 128)),
        mixers=(_without("global_attention"), ALL_MIXERS, ALL_MIXERS),
        partners=PARTNERS,
        splits=(1.0, 0.5, 0.25, 0.75),
        channel_mixers=CHANNEL_MIXERS,
        placements=RULES,
        settings={"kernel": (3, 5, 7), "dilation": (1, 2), "window": (2, 4), "heads": (2, 4), "reduction": (4, 2)},
    )


def mobile() -> SearchSpace:
    """224-pixel images, about 0.1 to 0.6 GMACs."""
    return SearchSpace(
        name="mobile",
        resolutions=(160, 192, 224),
        stems=("patchify", "overlap", "conv"),
        stem_stride=4,
        downsamples=("conv", "overlap", "average"),
        norms=("layer", "batch", "rms"),
        depths=((1, 2), (1, 2, 3), (2, 3, 4, 5, 6), (1, 2, 3)),
        widths=((24, 32), (48, 64), (96, 112, 128), (160, 192, 224)),
        mixers=(_without("global_attention"), _without("global_attention"), ALL_MIXERS, ALL_MIXERS),
        partners=PARTNERS,
        splits=(1.0, 0.5, 0.25, 0.75),
        channel_mixers=CHANNEL_MIXERS,
        placements=RULES,
        settings={"kernel": (3, 5, 7), "window": (4, 7, 14), "heads": (2, 4, 8), "reduction": (8, 4, 2)},
    )


def base() -> SearchSpace:
    """224-pixel images, about 1 to 9 GMACs."""
    return SearchSpace(
        name="base",
        resolutions=(192, 224, 256),
        stems=("patchify", "overlap", "conv"),
        stem_stride=4,
        downsamples=("conv", "overlap", "average"),
        norms=("layer", "batch", "rms"),
        depths=((2, 3), (2, 3, 4), (6, 9, 12, 18), (2, 3)),
        widths=((64, 80, 96), (128, 160, 192), (256, 320, 384), (512, 640, 768)),
        mixers=(_without("global_attention"), _without("global_attention"), ALL_MIXERS, ALL_MIXERS),
        partners=PARTNERS,
        splits=(1.0, 0.5, 0.25, 0.75),
        channel_mixers=CHANNEL_MIXERS,
        placements=RULES,
        settings={"kernel": (3, 5, 7), "window": (7, 14), "heads": (2, 4, 8), "reduction": (8, 4, 2)},
    )


def _without(*left_out: str) -> tuple[str, ...]:
    return tuple(name for name in ALL_MIXERS if name not in left_out)


PRESETS = {"tiny": tiny, "mobile": mobile, "base": base}


def load_space(name_or_path: str | Path) -> SearchSpace:
    """The preset of that name, or the space of a YAML file: a `preset` to start from and fields to override.

    Raises UnknownNameError for a name that is neither, FileError for an unreadable file, SpaceError for a broken rule.
    """
    if str(name_or_path) in PRESETS:
        return PRESETS[str(name_or_path)]()
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise UnknownNameError("space", str(name_or_path), PRESETS)
    try:
        data = yaml.safe_load(read_text(path, "search space"))
    except yaml.YAMLError as error:
        raise SpaceError(f"search space {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise SpaceError(f"search space {path} must be a mapping of fields, e.g. 'preset: tiny'")
    fields = dict(data)
    preset = fields.pop("preset", None)
    if preset is not None and str(preset) not in PRESETS:
        raise UnknownNameError("preset", str(preset), PRESETS)
    base_space = PRESETS[preset]() if preset is not None else None
    return SearchSpace.from_mapping({"name": path.stem, **fields}, base_space)
