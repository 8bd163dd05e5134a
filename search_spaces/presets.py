"""The presets, and reading a space from a name or a YAML file that overrides one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from nas.errors import SpaceError, UnknownNameError
from nas.files import read_text
from nas.search_spaces.around import around
from nas.search_spaces.catalog.entry import entry
from nas.search_spaces.maps import Map
from nas.search_spaces.registry import Kind, Value, names
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.surroundings import READ_FIRST, carries_overview, downsamples_of, stem_map, stem_of
from nas.search_spaces.validation import settings_are_taken

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


_MODIFIERS: dict[str, tuple[Value, ...]] = {
    "dilation": (1, 2, 4, 8),
    "stripe": (1, 2, 4, 7, 14),
    "regions": (8, 7, 4, 2),
    "top_k": (1, 4, 16, 49, 64),
    "activation": ("gelu", "silu", "relu", "star_relu", "hardswish"),
    "squeeze": (0, 16, 8, 4),
    "feature": ("relu", "elu", "cosine"),
    "position": ("none", "table", "log_cpb", "rope", "decay", "relative_query", "cpe"),
    "score": ("dot", "cosine"),
    "normaliser": ("softmax", "clipped_softmax", "relu"),
    "gate": ("none", "sigmoid", "silu"),
    "lepe": (0, 3, 5),
    "qk_ratio": (1.0, 0.5, 0.25),
}
"""Settings beside the usual ones. On the four maps of 224 pixels a dilation of 8, 4, 2, 1 is floor(map / 7), the widest that
a neighbourhood of 7 may have; `top_k` 49 and 64 are all of 7 x 7 and 8 x 8 regions."""


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
        stems=("patchify", "overlap", "conv", "strided_convs", "double_convs"),
        stem_stride=4,
        downsamples=("conv", "overlap", "average", "patch_merging", "depthwise"),
        norms=("layer", "batch", "rms", "rep_batch"),
        depths=((1, 2), (1, 2, 3), (2, 3, 4, 5, 6), (1, 2, 3)),
        widths=((24, 32), (48, 64), (96, 112, 128), (160, 192, 224)),
        mixers=(_local((*CORE, *MODERN)), _local((*CORE, *MODERN)), (*CORE, *MODERN), (*CORE, *MODERN)),
        partners=(*PARTNERS, "identity"),
        splits=(1.0, 0.5, 0.25, 0.75),
        channel_mixers=(*CHANNEL_MIXERS, "grn_mlp"),
        placements=RULES,
        residuals=("layer_scale", "plain", "residual_scale"),
        heads=("average_pool", "pool_norm", "pointwise_pool"),
        settings={
            "kernel": (3, 5, 7),
            "window": (4, 7, 14),
            "heads": (2, 4, 8),
            "reduction": (8, 4, 2),
            "dilation": (1, 2, 4, 8),
            "activation": ("gelu", "silu", "relu", "hardswish"),
            "squeeze": (0, 16, 8, 4),
            "position": ("none", "table", "rope", "cpe"),
            "lepe": (0, 3),
            "qk_ratio": (1.0, 0.5),
        },
    )


def base() -> SearchSpace:
    """224-pixel images, about 1 to 9 GMACs."""
    return SearchSpace(
        name="base",
        resolutions=(192, 224, 256),
        stems=("patchify", "overlap", "conv", "strided_convs", "double_convs", "deep_conv", "conv_patch"),
        stem_stride=4,
        downsamples=("conv", "overlap", "average", "patch_merging", "depthwise", "residual_reduction", "residual_attention"),
        norms=("layer", "batch", "rms", "group", "rep_batch"),
        depths=((2, 3), (2, 3, 4), (6, 9, 12, 18), (2, 3)),
        widths=((64, 80, 96), (128, 160, 192), (256, 320, 384), (512, 640, 768)),
        mixers=(_local((*CORE, *MODERN, *LARGE)),) * 2 + ((*CORE, *MODERN, *LARGE),) * 2,
        partners=(*PARTNERS, "identity"),
        splits=(1.0, 0.5, 0.25, 0.75, 0.125, 0.875),
        channel_mixers=(*CHANNEL_MIXERS, "grn_mlp", "multi_scale_mlp"),
        placements=RULES,
        residuals=("layer_scale", "plain", "residual_scale"),
        heads=("average_pool", "pool_norm", "class_attention"),
        settings={
            "kernel": (3, 5, 7),
            "window": (7, 8, 14),
            "heads": (2, 4, 8),
            "reduction": (8, 4, 2),
            **_MODIFIERS,
        },
    )


def every() -> SearchSpace:
    """224-pixel images and every registered operator that makes or takes the maps of such a space, for studies of operators."""
    token_mixers, usual = tuple(names(Kind.TOKEN_MIXER)), base()
    return replace(
        usual,
        name="every",
        stems=_square_stems(usual),
        downsamples=_halving(usual),
        norms=tuple(names(Kind.NORM)),
        channel_mixers=tuple(names(Kind.CHANNEL_MIXER)),
        mixers=(_local(token_mixers),) * 2 + (token_mixers,) * 2,
        residuals=tuple(names(Kind.RESIDUAL)),
        heads=tuple(name for name in names(Kind.HEAD) if name not in READ_FIRST),
    )


def _square_stems(space: SearchSpace) -> tuple[str, ...]:
    """The stems that divide every image of a space by its stride, without a class token."""
    places = list(itertools.product(space.resolutions, space.widths[0]))
    stems = {name: [(stem_of(space, name, width, side), side) for side, width in places] for name in names(Kind.STEM)}
    return tuple(
        name
        for name, found in stems.items()
        if all(
            stem is not None and stem_map(space, stem, side) == Map.square(side // space.stem_stride) for stem, side in found
        )
    )


def _halving(space: SearchSpace) -> tuple[str, ...]:
    """The downsamples that halve the maps of a space somewhere."""
    places = [
        (width, at) for stage in range(1, len(space.depths)) for width in space.widths[stage] for at in space.maps_of(stage - 1)
    ]
    listed = (name for name in names(Kind.DOWNSAMPLE) if not carries_overview(name))
    return tuple(name for name in listed if any(downsamples_of(space, name, *place, 2) for place in places))


def _local(mixers: tuple[str, ...]) -> tuple[str, ...]:
    """Without the mixer whose cost on the large maps of early stages nothing bounds."""
    return tuple(name for name in mixers if name != "global_attention")


PRESETS = {"tiny": tiny, "mobile": mobile, "base": base, "every": every}
AROUND = "around:"
"""Before a backbone of the catalogue: the space that lies around it."""


def load_space(name_or_path: str | Path) -> SearchSpace:
    """The preset of that name, the space around a backbone (`around:convnext_t`), or the space of a YAML file.

    A YAML file has a `preset` to start from, which may be `around:NAME` too, and fields to override. Raises UnknownNameError
    for a name that is none of these, FileError for an unreadable file, SpaceError for a broken rule, also for a setting of the
    file that no operator of the space takes; those of the preset that none takes any more are left alone.
    """
    known = _named(str(name_or_path))
    if known is not None:
        return known
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
    base_space = None if preset is None else _named(str(preset))
    if preset is not None and base_space is None:
        raise UnknownNameError("preset", str(preset), PRESETS)
    space = SearchSpace.from_mapping({"name": path.stem, **fields}, base_space)
    settings_are_taken(space, fields.get("settings", {}))
    return space


def _named(name: str) -> SearchSpace | None:
    """The preset of a name, or the space around a backbone; None for another text."""
    if name.startswith(AROUND):
        backbone = name.removeprefix(AROUND)
        return around(entry(backbone).architecture, f"around_{backbone}")
    return PRESETS[name]() if name in PRESETS else None
