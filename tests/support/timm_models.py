"""timm beside a CPU build of torch: torchvision, which timm imports, needs the names of operators that it did not compile."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

DETECTION = ("nms", "qnms", "roi_align", "qroi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")
BACKWARD = ("_roi_align_backward", "_ps_roi_align_backward", "_roi_pool_backward", "_ps_roi_pool_backward")


def import_timm() -> ModuleType:
    """The timm package. Skips the test where it is not installed."""
    for name in (*DETECTION, *BACKWARD, "_deform_conv2d_backward"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")
    return pytest.importorskip("timm", exc_type=ImportError)


timm = import_timm()
