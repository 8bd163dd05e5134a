"""A filter over the frequencies of a map that the map's own spectrum makes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.search_spaces.operators.token_mixers import fourier_operator
from nas.search_spaces.operators.token_mixers.fourier_operator import (
    BLOCKS,
    EXPANSION,
    SHRINK,
    FourierOperator,
    blocked,
    complex_layer,
    naive_network,
    over_spectrum,
    unblocked,
)
from nas.search_spaces.registry import Group, Kind, register


@register(
    "frequency_filter",
    Kind.TOKEN_MIXER,
    family="fourier_operator",
    group=Group.FREQUENCY,
    cite=(
        "Huang et al. 2023 (AFFNet), arXiv:2307.14008, section 3.2; official Adaptive Frequency Filters "
        "affnet/modules/aff_block.py AFNO2D_channelfirst"
    ),
    settings={"blocks": BLOCKS, "expansion": EXPANSION},
)
class FrequencyFilter(FourierOperator):
    """x + irfft2(z * shrink(MLP(z))) with z = rfft2(x): a circular convolution with a kernel as large as the map, made of it.

    The MLP, its settings, weights and MACs are those of `fourier_operator`, with ReLU, the official code's default; the
    complex product of the filter with the spectrum is element-wise and not counted. As in the code, and not in the paper's
    eq. 6, the mixer adds its own input, besides the residual around it.
    """

    def _changed(self, spectrum: Tensor) -> Tensor:
        """What becomes of the spectrum (B, H, 2, F, C), real and imaginary parts along the third dimension."""
        mixed = complex_layer(blocked(spectrum, self.bias_in.shape[1]), self.weight_in, self.bias_in).relu()
        mask = F.softshrink(complex_layer(mixed, self.weight_out, self.bias_out), SHRINK)
        return product(unblocked(mask, spectrum), spectrum)


def product(mask: Tensor, spectrum: Tensor) -> Tensor:
    """The complex product of two spectra (B, H, 2, F, C)."""
    a, b = mask.unbind(2)
    real, imaginary = spectrum.unbind(2)
    return torch.stack((a * real - b * imaginary, a * imaginary + b * real), dim=2)


def macs(width: int, size: int, *, blocks: int, expansion: int = 1) -> int:
    """Multiply-adds of one map."""
    return fourier_operator.macs(width, size, blocks=blocks, expansion=expansion)


def reference(module: FrequencyFilter, x: Tensor) -> Tensor:
    """Frequency by frequency, the transforms as sums over all pixels."""

    def filtered(re: Tensor, im: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.complex(*naive_network(module, re, im)) * torch.complex(re, im)
        return z.real, z.imag

    return x + over_spectrum(x, filtered)
