"""A mixture of perceptrons, of which each position uses those that a router prefers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION
from nas.search_spaces.registry import Kind, Setting, flag, register


@register(
    "mixture_of_experts",
    Kind.CHANNEL_MIXER,
    cite="Hwang et al. 2022 (Tutel), arXiv:2206.03382; official swin_transformer_moe.py MoEMlp",
    settings={
        "expansion": EXPANSION,
        "experts": Setting((2, 4, 8), rule=lambda v, place: 2 <= int(v) <= 64, because="there are 2 to 64 experts"),
        "active": Setting(
            (1, 2),
            rule=lambda v, place: 1 <= int(v) <= int(place.chosen["experts"]),
            because="a position uses at least one and at most all experts",
        ),
        "normalised": flag(False),
    },
)
class MixtureOfExperts(nn.Module):
    """sum over the `active` best experts e of share_e * (W2_e gelu(W1_e x + b1_e) + b2_e), shares = softmax(router x).

    `normalised` divides the shares of the chosen experts by their sum (with one active expert the router then learns nothing).
    Without capacity: no position is dropped, and nothing is added to the loss; in evaluation this is the official layer with
    unlimited capacity and its linear router. All experts are evaluated on all positions as two large products, because sparse
    dispatch has shapes that depend on the data, which ONNX and torch.export refuse: the MACs are those of all experts. No
    official fixture: MoEMlp needs the compiled dispatch of tutel. With E = expansion * C hidden channels an expert:
    parameters experts (2 C E + E + 2 C), MACs H W experts (2 C E + 2 C).
    """

    def __init__(self, width: int, size: int, *, expansion: int, experts: int, active: int, normalised: bool = False) -> None:
        super().__init__()
        self.active, self.normalised = active, normalised
        hidden = expansion * width
        self.router = nn.Linear(width, experts, bias=False)
        self.expand = nn.Parameter(nn.init.trunc_normal_(torch.empty(experts, hidden, width), std=0.02))
        self.expand_bias = nn.Parameter(torch.zeros(experts, hidden))
        self.reduce = nn.Parameter(nn.init.trunc_normal_(torch.empty(experts, hidden, width), std=0.02))
        self.reduce_bias = nn.Parameter(torch.zeros(experts, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        shares = self._shares(x)
        hidden = F.gelu(F.linear(x, self.expand.flatten(0, 1), self.expand_bias.flatten()))
        weighted = hidden.unflatten(-1, self.expand_bias.shape) * shares[..., None]
        return weighted.flatten(-2) @ self.reduce.flatten(0, 1) + shares @ self.reduce_bias

    def _shares(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, experts), 0 for experts that are not chosen."""
        shares: Tensor = self.router(x).softmax(-1)
        best, chosen = shares.topk(self.active, dim=-1)
        if self.normalised:
            best = best / best.sum(-1, keepdim=True)
        return torch.zeros_like(shares).scatter(-1, chosen, best)


def reference(module: MixtureOfExperts, x: Tensor) -> Tensor:
    """Position by position, through the chosen experts alone."""
    logits = naive.linear(module.router, x)
    out = torch.zeros_like(x)
    for b, i, j in ((b, i, j) for b in range(x.shape[0]) for i in range(x.shape[1]) for j in range(x.shape[2])):
        shares = logits[b, i, j].exp() / logits[b, i, j].exp().sum()
        chosen = [int(e) for e in shares.detach().argsort(descending=True)[: module.active]]
        total = sum(shares[e] for e in chosen) if module.normalised else 1.0
        for e in chosen:
            hidden = naive.gelu(module.expand[e] @ x[b, i, j] + module.expand_bias[e])
            out[b, i, j] += shares[e] / total * (module.reduce[e].mT @ hidden + module.reduce_bias[e])
    return out


def macs(width: int, size: int, *, expansion: int, experts: int, **others: object) -> int:
    """Multiply-adds on a size x size map, all experts counted: H W experts (2 C E + 2 C)."""
    return size**2 * experts * width * (2 * expansion * width + 2)
