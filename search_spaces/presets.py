"""The presets, and reading a space from a name or a YAML file that overrides one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from nas.errors import SpaceError, UnknownNameError
from nas.files import read_text
from nas.search_spaces.registry import Kind, names
from nas.search_spaces.space import SearchSpace

CORE = (
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
MODERN = (
    "separable_conv",
    "inception_conv",
    "reparam_conv",
    "multi_scale_conv",
    "mix_shift_conv",
    "large_small_conv",
    "attentive_conv",
    "gated_cnn",
    "focal_modulation",
    "scale_aware_modulation",
    "outlook_attention",
    "sequence_pooled_attention",
    "channel_attention",
    "fourier_operator",
    "selective_scan",
)
LARGE = (
    "convnext_conv",
    "large_kernel_conv",
    "context_mixing_conv",
    "dynamic_conv",
    "stripe_attention",
    "grid_attention",
    "halo_attention",
    "axial_attention",
    "routed_attention",
    "overlapping_reduction_attention",
    "conv_projection_attention",
    "factorised_attention",
    "delta_rule",
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
        mixers=(_local(CORE), CORE, CORE),
        partners=PARTNERS,
        splits=(1.0, 0.5, 0.25, 0.75),
        channel_mixers=CHANNEL_MIXERS,
        placements=RULES,
        settings={
            "kernel": (3, 5, 7),
            "dilation": (1, 2),
            "window": (2, 4),
            "heads": (2, 4),
            "reduction": (4, 2),
            "order": (2, 3, 4),
        },
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
        mixers=(_local((*CORE, *MODERN)), _local((*CORE, *MODERN)), (*CORE, *MODERN), (*CORE, *MODERN)),
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
        mixers=(_local((*CORE, *MODERN, *LARGE)),) * 2 + ((*CORE, *MODERN, *LARGE),) * 2,
        partners=PARTNERS,
        splits=(1.0, 0.5, 0.25, 0.75),
        channel_mixers=CHANNEL_MIXERS,
        placements=RULES,
        settings={"kernel": (3, 5, 7), "window": (7, 14), "heads": (2, 4, 8), "reduction": (8, 4, 2)},
    )


def every() -> SearchSpace:
    """224-pixel images and every registered mixer, norm and channel mixer, for studies of operators."""
    token_mixers = tuple(names(Kind.TOKEN_MIXER))
    return replace(
        base(),
        name="every",
        norms=tuple(names(Kind.NORM)),
        channel_mixers=tuple(names(Kind.CHANNEL_MIXER)),
        mixers=(_local(token_mixers),) * 2 + (token_mixers,) * 2,
    )


def _local(mixers: tuple[str, ...]) -> tuple[str, ...]:
    """Without the mixer whose cost on the large maps of early stages nothing bounds."""
    return tuple(name for name in mixers if name != "global_attention")


PRESETS = {"tiny": tiny, "mobile": mobile, "base": base, "every": every}


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
