"""One thread an operation in every test and in every process that a test starts: results then agree to the last bit."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import settings

settings.register_profile("here", deadline=None)  # two cores that others share: how long an example takes says nothing
settings.load_profile("here")
torch.set_num_threads(1)
