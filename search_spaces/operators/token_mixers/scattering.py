"""Gates on a complex wavelet transform of a map: a learned mask on the low band, a small complex network on the high ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.token_mixers.fourier_operator import complex_layer
from nas.search_spaces.operators.token_mixers.linear_attention import naive_resized, resized
from nas.search_spaces.registry import Group, Kind, Setting, register

# The near_sym_b biorthogonal filters, the first level of the dual-tree complex wavelet transform (Kingsbury 1999): half of
# each, from the middle tap outwards. All four are symmetric. The analysis low-pass and the synthesis high-pass have 13 taps and
# differ in the sign of every other tap, as do the analysis high-pass and the synthesis low-pass with 19 taps.
SHORT = (0.55546875, 0.296875, -0.0482421875, -0.046875, 0.022265625, 0.0, -0.0017578125)
LONG = (
    *(0.5594308035714286, -0.29975760323660716, -0.05168805803571428, 0.05564313616071428, 0.023856026785714284),
    *(-0.007156808035714285, -0.0018833705357142855, 0.0013419015066964285, 0.0, -7.062639508928571e-05),
)


@register(
    "scattering",
    Kind.TOKEN_MIXER,
    group=Group.FREQUENCY,
    cite=(
        "Patro and Agneeswaran 2023 (Scattering Vision Transformer), arXiv:2311.01310, section 3; official svt.py "
        "SVT_channel_mixing, transforms as in pytorch_wavelets dtcwt"
    ),
    settings={
        "blocks": Setting(
            (4, 2, 1),
            rule=lambda v, place: int(v) >= 1 and place.width % int(v) == 0,
            because="blocks divide the channels",
        )
    },
)
class Scattering(nn.Module):
    """Inverse transform of (low * mask, MLP(bands)) with (low, bands) = one level of the dual-tree complex wavelet transform.

    `low` is as large as the map, each of the six complex bands (15, 45, 75 ... 165 degrees) half as large along both axes. The
    mask is a learned number for each position and channel, interpolated on maps of another size; the MLP has two complex
    layers, cut in `blocks` of channels, with ReLU on both parts between them, the same for all bands and positions. Published
    models have 4 blocks and the near_sym_b filters. Maps of odd size repeat their last row or column, as the transform does.

    Filters, mirrored edges and the sorting of even and odd positions are one constant matrix along each axis, which costs
    more MACs than separable convolutions of 13 and 19 taps (4 N C (2 H + W) against 192 N C).
    With b = C / blocks, N = H W, even H and W: MACs 4 N C (2 H + W) + 12 N C b; parameters N C + 4 C (b + 1).
    """

    analysis: Tensor
    synthesis: Tensor
    centred: ClassVar[dict[str, tuple[int, ...]]] = {"mask": (0, 1)}

    def __init__(self, width: int, size: int, *, blocks: int) -> None:
        super().__init__()
        self.size = size
        depth, side = width // blocks, size + size % 2
        self.mask = nn.Parameter(torch.randn(side, side, width) * 0.02)
        self.weight_in, self.weight_out = (nn.Parameter(torch.randn(2, blocks, depth, depth) * 0.02) for _ in range(2))
        self.bias_in, self.bias_out = (nn.Parameter(torch.randn(2, blocks, depth) * 0.02) for _ in range(2))
        analysis, synthesis = wavelet_matrices(size, torch.get_default_dtype())
        self.register_buffer("analysis", analysis, persistent=False)
        self.register_buffer("synthesis", synthesis, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        (down, up), (right, left) = (self._matrices(length, x) for length in (height, width))
        rows, columns = down.shape[0] // 4, right.shape[0] // 4
        y = (down @ (right @ x).view(batch, height, -1)).view(batch, 2, 2, rows, 2, 2, columns, channels)
        mask = resized(self.mask, 2 * rows, 2 * columns).view(rows, 2, columns, 2, channels).permute(1, 0, 3, 2, 4)
        low = y[:, 0, :, :, 0] * mask
        horizontal, vertical, diagonal = self._gated(torch.stack((y[:, 1, :, :, 0], y[:, 0, :, :, 1], y[:, 1, :, :, 1])))
        y = torch.stack((torch.stack((low, vertical), dim=3), torch.stack((horizontal, diagonal), dim=3)), dim=1)
        return left @ (up @ y.view(batch, 4 * rows, -1)).view(batch, height, 4 * columns, channels)

    def _gated(self, bands: Tensor) -> Tensor:
        """The MLP on the bands (3, B, 2, H / 2, 2, W / 2, C), each of two complex ones in squares of four numbers."""
        z = to_complex(bands).unflatten(-1, (self.bias_in.shape[1], -1)).permute(6, 1, 2, 3, 4, 5, 0, 7)
        hidden = complex_layer(z.reshape(z.shape[0], -1, 2 * z.shape[-1]), self.weight_in, self.bias_in).relu()
        z = complex_layer(hidden, self.weight_out, self.bias_out).view(z.shape)
        return from_complex(z.permute(6, 1, 2, 3, 4, 5, 0, 7).flatten(-2))

    def _matrices(self, length: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """`wavelet_matrices` of one axis: stored for the size that the module was built for."""
        if length == self.size:
            return self.analysis, self.synthesis
        analysis, synthesis = wavelet_matrices(length, x.dtype)
        return analysis.to(x.device), synthesis.to(x.device)


def to_complex(bands: Tensor) -> Tensor:
    """Two complex numbers from each square [[a, b], [c, d]]: (a - d + i (b + c)) / sqrt(2), (a + d + i (b - c)) / sqrt(2).

    (3, B, 2, H, 2, W, C) -> (part, which, 3, B, H, W, C), the real part first.
    """
    (a, b), (c, d) = (row.unbind(3) for row in bands.unbind(2))
    return torch.stack((torch.stack((a - d, a + d)), torch.stack((b + c, b - c)))) * math.sqrt(0.5)


def from_complex(z: Tensor) -> Tensor:
    """The inverse of `to_complex`."""
    (real, other_real), (imaginary, other_imaginary) = (part.unbind(0) for part in z.unbind(0))
    upper = torch.stack((real + other_real, imaginary + other_imaginary), dim=3)
    lower = torch.stack((imaginary - other_imaginary, other_real - real), dim=3)
    return torch.stack((upper, lower), dim=2) * math.sqrt(0.5)


def wavelet_matrices(length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The transform of one axis (2 n, length) and its inverse (length, 2 n), n = length rounded up to even.

    Rows of the first: even positions of the low band, odd ones, even of the high band, odd.
    """
    even = length + length % 2
    signs = [(-1) ** n for n in range(len(LONG))]
    flipped = [[tap * sign for tap, sign in zip(taps, signs, strict=False)] for taps in (LONG, SHORT)]
    analysis = torch.cat([filtering(taps, even) for taps in (SHORT, LONG)])
    synthesis = torch.cat([filtering(taps, even) for taps in flipped], dim=1)
    order = torch.cat([torch.arange(start, start + even, 2) for start in (0, 1, even, even + 1)])
    repeat = torch.eye(length, dtype=torch.float64)[torch.arange(even).clamp(max=length - 1)]
    return (analysis[order] @ repeat).to(dtype), synthesis[:length, order].contiguous().to(dtype)


def filtering(taps: Sequence[float], length: int) -> Tensor:
    """Convolution with a symmetric filter, given from its middle, on a line mirrored at both ends: (length, length)."""
    distance = torch.arange(1 - len(taps), len(taps))
    place = torch.arange(length)
    source = (place[:, None] + distance) % (2 * length)
    reads = torch.minimum(source, 2 * length - 1 - source)[..., None] == place
    return (reads * torch.tensor(taps, dtype=torch.float64)[distance.abs()][:, None]).sum(1)


def macs(width: int, size: int, *, blocks: int) -> int:
    """Multiply-adds of one map."""
    even = size + size % 2
    transforms = 4 * size**2 * even + 8 * size * even**2
    return width * (transforms + 12 * even**2 * (width // blocks))


def reference(module: Scattering, x: Tensor) -> Tensor:
    """Tap by tap with mirrored indices, band by band, block by block."""
    height, width = x.shape[1:3]
    if height % 2:
        x = torch.cat((x, x[:, -1:]), dim=1)
    if width % 2:
        x = torch.cat((x, x[:, :, -1:]), dim=2)
    low, high = _naive_filter(x, SHORT, 1, 1), _naive_filter(x, LONG, 1, 1)
    bands = {(i, j): _naive_filter(rows, (SHORT, LONG)[j], 1, 2) for i, rows in enumerate((low, high)) for j in range(2)}
    places = [[naive_resized(module.mask, i, j, *x.shape[1:3]) for j in range(x.shape[2])] for i in range(x.shape[1])]
    bands[0, 0] = bands[0, 0] * torch.stack([torch.stack(row) for row in places])
    for key in ((1, 0), (0, 1), (1, 1)):
        corners = [bands[key][:, i::2, j::2] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))]
        a, b, c, d = (corner / 2**0.5 for corner in corners)
        one, two = (_naive_network(module, z) for z in (torch.complex(a - d, b + c), torch.complex(a + d, b - c)))
        new = torch.zeros_like(bands[key])
        new[:, ::2, ::2], new[:, ::2, 1::2] = one.real + two.real, one.imag + two.imag
        new[:, 1::2, ::2], new[:, 1::2, 1::2] = one.imag - two.imag, two.real - one.real
        bands[key] = new / 2**0.5
    rows = [_naive_filter(bands[i, 0], LONG, -1, 2) + _naive_filter(bands[i, 1], SHORT, -1, 2) for i in range(2)]
    out = _naive_filter(rows[0], LONG, -1, 1) + _naive_filter(rows[1], SHORT, -1, 1)
    return out[:, :height, :width]


def _naive_filter(x: Tensor, taps: Sequence[float], sign: int, dim: int) -> Tensor:
    """Symmetric filter along an axis; `sign` -1 flips every other tap."""
    length, lines = x.shape[dim], x.unbind(dim)
    out = []
    for position in range(length):
        total = torch.zeros_like(lines[0])
        for distance in range(1 - len(taps), len(taps)):
            source = position + distance
            while not 0 <= source < length:
                source = -1 - source if source < 0 else 2 * length - 1 - source
            total = total + lines[source] * taps[abs(distance)] * sign**distance
        out.append(total)
    return torch.stack(out, dim=dim)


def _naive_network(module: Scattering, z: Tensor) -> Tensor:
    """The two complex layers on a complex map (B, H, W, C)."""
    for weight, bias in ((module.weight_in, module.bias_in), (module.weight_out, module.bias_out)):
        matrices, offsets = torch.complex(weight[0], weight[1]), torch.complex(bias[0], bias[1])
        parts = z.chunk(len(matrices), dim=-1)
        mixed = [(p[..., None] * m).sum(-2) + o for p, m, o in zip(parts, matrices, offsets, strict=True)]
        z = torch.cat(mixed, dim=-1)
        if weight is module.weight_in:
            z = torch.complex(z.real.clamp(min=0), z.imag.clamp(min=0))
    return z
