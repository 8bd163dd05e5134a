"""Mixer gating unit: a linear projection times a whole MLP-Mixer block."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.token_mixers import mixer_mlp
from nas.search_spaces.operators.token_mixers.mixer_mlp import TOKENS, MixerMLP
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "token_mlp_gate",
    Kind.TOKEN_MIXER,
    group=Group.GATING,
    cite="Abdullah and Aydin 2024 (NiNformer), arXiv:2403.02411, section 3; official ninformer.py MixerGatingUnit",
    settings={
        "tokens": TOKENS,
        "expansion": Setting((1, 2, 4), rule=lambda v, place: 1 <= int(v) <= 16, because="an expansion is between 1 and 16"),
    },
)
class TokenMLPGate(nn.Module):
    """gate(x) * m, where t = x + mixer(norm(x)), m = t + contract(gelu(expand(norm'(t)))).

    `mixer` is the token-mixing MLP of `mixer_mlp` with `tokens` hidden tokens and meets other maps as it does; `expand` has
    `expansion` C outputs. The block mixes channels as well, and its sums with x are inside the gate, as in the official code.
    With N = H W, T the hidden tokens and e the expansion, MACs: 2 N T C + N (1 + 2 e) C^2.
    """

    def __init__(self, width: int, size: int, *, tokens: int, expansion: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)
        self.token_norm, self.channel_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer = MixerMLP(width, size, tokens=tokens)
        self.expand, self.contract = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y = x + self.mixer(self.token_norm(x))
        y = y + self.contract(F.gelu(self.expand(self.channel_norm(y))))
        z: Tensor = self.gate(x) * y
        return z


def macs(width: int, size: int, *, tokens: int, expansion: int) -> int:
    """Multiply-adds on a size x size map."""
    return mixer_mlp.macs(width, size, tokens=tokens) + size**2 * width**2 * (1 + 2 * expansion)


def reference(module: TokenMLPGate, x: Tensor) -> Tensor:
    """Step by step, with the token-mixing MLP's own reference."""
    y = x + mixer_mlp.reference(module.mixer, naive.layer_norm(module.token_norm, x))
    hidden = naive.gelu(naive.linear(module.expand, naive.layer_norm(module.channel_norm, y)))
    y = y + naive.linear(module.contract, hidden)
    return naive.linear(module.gate, x) * y
