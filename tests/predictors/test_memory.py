import random

import pytest
import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as watch

from nas.errors import UsageError
from nas.predictors.cost import cost
from nas.predictors.memory import Follow, peak_memory
from nas.search_spaces.backbone import build
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")
NETWORKS = [SPACE.sample(random.Random(seed)) for seed in range(4)]


def allocated(model, image):
    """The most bytes that the allocator had given out during one inference, beside what was there before it."""
    with torch.inference_mode():
        model(image)
        with watch(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            model(image)
    total = peak = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            peak = max(peak, total)
    return peak


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda item: item.digest)
def test_the_estimate_agrees_with_what_the_allocator_gives_out(architecture, batch):
    model = build(architecture, 10).eval()
    image = torch.randn(batch, 3, architecture.resolution, architecture.resolution)
    measured = allocated(model, image) + 4 * (image.numel() + sum(weight.numel() for weight in model.parameters()))
    assert peak_memory(architecture, num_classes=10, batch=batch) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda item: item.digest)
def test_a_runtime_that_frees_maps_needs_less_and_never_less_than_the_weights(architecture):
    planned = peak_memory(architecture, num_classes=10, runtime="onnxruntime")
    assert 4 * cost(architecture, num_classes=10).params < planned <= peak_memory(architecture, num_classes=10)


def test_half_the_precision_is_half_the_memory_and_a_larger_image_more():
    first = NETWORKS[0]
    assert peak_memory(first, precision="fp16") == peak_memory(first) / 2
    assert peak_memory(first, 2 * first.resolution) > peak_memory(first)


def test_what_has_no_memory_is_said_in_one_line():
    with pytest.raises(UsageError, match="precisions are fp32"):
        peak_memory(NETWORKS[0], precision="fp3")
    with pytest.raises(UsageError, match="at least 1"):
        peak_memory(NETWORKS[0], batch=0)


def test_tensors_are_followed_to_their_end():
    with torch.inference_mode(), Follow() as follow:
        for _ in range(5):
            torch.ones(1000).add_(1)
        assert follow.peak == 4000
        kept = [torch.ones(1000) for _ in range(3)]
        assert kept[0].view(10, 100) is not None
    assert follow.peak == 12000
