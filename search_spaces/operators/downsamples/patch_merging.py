"""Patch merging: the four pixels of each 2x2 patch side by side, then a linear map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.norms.rep_batch import RepBatchNorm
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, one_of, register


@register(
    "patch_merging",
    Kind.DOWNSAMPLE,
    cite="Liu et al. 2021 (Swin), arXiv:2103.14030, section 3.1; norm behind: Liu et al. 2022 (SwinV2), arXiv:2111.09883; timm "
    "swin_transformer.py and swin_transformer_v2.py PatchMerging; rep_batch: Guo et al. 2024 (SLAB), arXiv:2405.11582, "
    "official slab_swin.py PatchMerging",
    settings={"norm": one_of("none", "before", "after", "rep_batch", default="none"), "eps": parts.eps_of("norm")},
)
class PatchMerging(nn.Module):
    """W [x00, x10, x01, x11] without bias, x_uv the pixel in row u and column v of the patch.

    `norm` says where it has a layer norm of its own: `before` the linear map, of all 4 C values (Swin), or `after` it (SwinV2);
    `rep_batch` is a batch norm with a scaled identity before it (SLAB), whose values are ordered channel by channel, so that
    fewer channels are a leading part of them. Odd maps are completed with zeros at the bottom and right. The weight
    (width, 4, in_width) is Swin's `reduction.weight` (width, 4 in_width), pixel after pixel. Parameters 4 C C', and 8 C, 2 C'
    or 8 C + 1 of the norm.
    """

    def __init__(self, in_width: int, width: int, *, norm: str = "none", eps: float = 1e-5) -> None:
        super().__init__()
        self.eps, self.first = eps, norm == "before"
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(width, 4, in_width), std=0.02))
        if self.first:
            self.patch_scale, self.patch_shift = nn.Parameter(torch.ones(4, in_width)), nn.Parameter(torch.zeros(4, in_width))
        self.rep = RepBatchNorm(4 * in_width, eps=eps) if norm == "rep_batch" else None
        self.norm = parts.own_norm("layer" if norm == "after" else "none", width, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        down, right = x.shape[1] % 2, x.shape[2] % 2
        x = F.pad(x, (0, 0, 0, right, 0, down)) if down or right else x
        grid = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2))
        if self.rep is not None:
            normed = self.rep(grid.permute(0, 1, 3, 5, 4, 2).flatten(3))
            return F.linear(normed, self.weight.transpose(1, 2).flatten(1))
        patches = grid.permute(0, 1, 3, 4, 2, 5).flatten(3)
        if self.first:
            scale, shift = self.patch_scale.flatten(), self.patch_shift.flatten()
            patches = F.layer_norm(patches, scale.shape, scale, shift, self.eps)
        y: Tensor = self.norm(F.linear(patches, self.weight.flatten(1)))
        return y


def reference(module: PatchMerging, x: Tensor) -> Tensor:
    """Patch by patch."""
    batch, height, width, channels = x.shape
    padded = x.new_zeros(batch, height + height % 2, width + width % 2, channels)
    padded[:, :height, :width] = x
    if module.rep is not None:
        padded = _batch_normed(module.rep, padded)
    rows = []
    for i in range(0, padded.shape[1], 2):
        row = []
        for j in range(0, padded.shape[2], 2):
            patch = torch.stack([padded[:, i + u, j + v] for v in range(2) for u in range(2)], dim=1)
            if module.first:
                centred = patch - patch.mean((1, 2), keepdim=True)
                spread = ((centred**2).mean((1, 2), keepdim=True) + module.eps).sqrt()
                patch = centred / spread * module.patch_scale + module.patch_shift
            row.append(torch.stack([(patch * weight).sum((1, 2)) for weight in module.weight], dim=-1))
        rows.append(torch.stack(row, dim=1))
    out = torch.stack(rows, dim=1)
    return naive.layer_norm(module.norm, out) if isinstance(module.norm, nn.LayerNorm) else out


def _batch_normed(norm: RepBatchNorm, x: Tensor) -> Tensor:
    """The map after a batch norm that tells the four pixels of each patch apart, pixel after pixel of the patch."""
    out = torch.zeros_like(x)
    for u in range(2):
        for v in range(2):
            for channel in range(x.shape[3]):
                n, pixels = 4 * channel + 2 * v + u, x[:, u::2, v::2, channel]
                mean, variance = pixels.mean(), ((pixels - pixels.mean()) ** 2).mean()
                if not norm.training and norm.running_mean is not None and norm.running_var is not None:
                    mean, variance = norm.running_mean[n], norm.running_var[n]
                normed = (pixels - mean) / (variance + norm.eps).sqrt() * norm.weight[n] + norm.bias[n]
                out[:, u::2, v::2, channel] = normed + norm.alpha * pixels
    return out
