"""How the other sides of the operator benchmark are called, and what stands where a part of them is taken out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from operator_sides import Build, Here, NotRunnableError, import_file
from torch import Tensor, nn

from nas.search_spaces.registry import Kind

MLP = Kind.CHANNEL_MIXER
FOLDED = "theirs: branches merged once into one kernel; ours are merged at each call"
CACHE = "the map does not fit the cache, and products with one vector read it more slowly in rows of channels than in NCHW"
PLANES = "sums over the positions of a channels-last map take longer than sums over the planes of NCHW"
MOMENTS = "torch's kernel for channels-last maps sums each channel on its own first, that for NCHW the whole image in one run"
COPIED = "in training the map is copied to NCHW, where the gradient of kernels of each image is faster, and its gradient back"
STABLE = "sorting takes half the time, and ours is stable, so that equal values have a defined order"
NARROW = "channels-last parts of 12 channels are joined in runs of 48 bytes; in NCHW a part is one block"
THREE = "q, k and v are three products, so that a supernet can slice each"


def with_size(module: Any, x: Tensor, here: Here) -> Any:
    """module(tokens, [height, width])."""
    return module(x, [here.size, here.size])


def with_sides(module: Any, x: Tensor, here: Here) -> Any:
    """module(tokens, height, width)."""
    return module(x, here.size, here.size)


def without(module: Any, *names: str) -> nn.Module:
    """The module with these children replaced by the identity."""
    for name in names:
        setattr(module, name, nn.Identity())
    return module  # type: ignore[no-any-return]


def bare(block: Any) -> nn.Module:
    """A transformer block of which the attention alone is called."""
    return without(block, "norm1", "norm2", "mlp")


class Zero(nn.Module):
    """0, to which a residual addition comes down where a block's second half is taken out."""

    def forward(self, x: Tensor, *beside: Tensor) -> Tensor:
        """A scalar."""
        return x.new_zeros(())


class First(nn.Module):
    """Its first argument, whatever it was made with."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor, *beside: Tensor) -> Tensor:
        """The same x."""
        return x


def self_attention(found: Any, here: Here) -> nn.Module:
    """HaloNet's block, with stride 2 as a downsample."""
    halo = partial(found.get_attn("halo"), block_size=here["block"], halo_size=here["halo"], num_heads=here["heads"])
    return found.SelfAttnBlock(  # type: ignore[no-any-return]
        here.channels, here.width, stride=2 if here.in_width else 1, bottle_ratio=1 / here["ratio"], downsample="conv1x1",
        layers=found.LayerFn(self_attn=halo),
    )  # fmt: skip


def beside(found: Any, path: str) -> Any:
    """Another file of a module's folder, for what imports of whole packages cannot reach."""
    return import_file(Path(found.__file__).parent / path, len(Path(path).parts))


def lacking(what: str) -> Build:
    """Of a case whose other side does not run on a CPU."""

    def build(found: Any, here: Here) -> nn.Module:
        raise NotRunnableError(f"needs {what}")

    return build
