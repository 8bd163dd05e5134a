"""The perceptron of SpaRTAN: hidden pairs of channels are complex numbers, turned by a learned phase and amplitude."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.squeeze import SqueezeExcite, squeeze_macs, squeeze_reference
from nas.search_spaces.registry import Kind, Setting, flag, register


@register(
    "wave_mlp",
    Kind.CHANNEL_MIXER,
    cite="Chong et al. 2025 (SpaRTAN), arXiv:2507.10999, channel mixing; official spartan.py CMixer",
    settings={
        "expansion": Setting(
            (2, 4), rule=lambda v, place: 2 <= int(v) <= 8, because="the hidden layer is 2 to 8 times as wide: it holds pairs"
        ),
        "grouped": flag(False),
    },
)
class WaveMLP(nn.Module):
    """W3 se(gelu(BN(conv(turn * wave)))) with wave = a p + a_m p_m, a = W1 x, p = gelu(W2 x).

    a_m and p_m are those values of a and p whose channel is the strongest of x at the position. Channels 2 j and 2 j + 1 of
    the wave are the real and imaginary part of a number that is multiplied by the learned complex `turn`. The convolution is
    3x3 without bias, depth-wise or, where `grouped`, in C groups of `expansion` channels: the official code does so in the
    later half of the stages (named the other way round there), where its SMixer is depth-wise. The gate se has C / 4 hidden
    channels and ReLU; the batch norm has eps 1e-6. With E = expansion * C: parameters
    3 C E + 3 E + C + E + 2 E + 9 E g + 2 E C/4 + C/4 + E, MACs H W (3 C E + 9 E g) + 2 E C/4, with g = expansion or 1.
    """

    def __init__(self, width: int, size: int, *, expansion: int, grouped: bool = False) -> None:
        super().__init__()
        hidden = expansion * width
        self.amplitude, self.phase = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.turn = nn.Parameter(torch.randn(hidden // 2, 2))
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=width if grouped else hidden, bias=False)
        self.norm = nn.BatchNorm2d(hidden, eps=1e-6)
        self.squeeze = SqueezeExcite(hidden, max(width // 4, 1))
        self.reduce = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        strongest = x.argmax(-1, keepdim=True)
        phase, amplitude = F.gelu(self.phase(x)), self.amplitude(x)
        wave = amplitude * phase + amplitude.gather(-1, strongest) * phase.gather(-1, strongest)
        wave = wave.unflatten(-1, (-1, 2))
        (real, imaginary), (cosine, sine) = wave.unbind(-1), self.turn.unbind(-1)
        turned = torch.stack((real * cosine - imaginary * sine, real * sine + imaginary * cosine), dim=-1).flatten(-2)
        mixed = F.gelu(self.norm(self.conv(turned.permute(0, 3, 1, 2)))).permute(0, 2, 3, 1)
        out: Tensor = self.reduce(self.squeeze(mixed))
        return out


def reference(module: WaveMLP, x: Tensor) -> Tensor:
    """Position by position and pair by pair, with the product of two complex numbers written out."""
    phase, amplitude = naive.gelu(naive.linear(module.phase, x)), naive.linear(module.amplitude, x)
    rows = []
    for b, i, j in ((b, i, j) for b in range(x.shape[0]) for i in range(x.shape[1]) for j in range(x.shape[2])):
        best = max(range(x.shape[3]), key=lambda c: float(x[b, i, j, c].detach()))
        wave = amplitude[b, i, j] * phase[b, i, j] + amplitude[b, i, j, best] * phase[b, i, j, best]
        turned = []
        for pair in range(len(wave) // 2):
            real, imaginary, (cosine, sine) = wave[2 * pair], wave[2 * pair + 1], module.turn[pair]
            turned += [real * cosine - imaginary * sine, real * sine + imaginary * cosine]
        rows.append(torch.stack(turned))
    mixed = naive.gelu(naive.batch_norm(module.norm, naive.conv2d(module.conv, torch.stack(rows).view(*x.shape[:3], -1))))
    return naive.linear(module.reduce, squeeze_reference(module.squeeze, mixed))


def macs(width: int, size: int, *, expansion: int, grouped: bool = False) -> int:
    """Multiply-adds on a size x size map: H W (3 C E + 9 E g) and the gate."""
    hidden = expansion * width
    return size**2 * hidden * (3 * width + 9 * (expansion if grouped else 1)) + squeeze_macs(hidden, max(width // 4, 1))
