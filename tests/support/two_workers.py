"""One of two training processes. They are started afresh and find this module by its place on the path of the tests."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from nas.search_spaces.space import SearchSpace
from nas.supernet.data import DataSplits
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.supernet import Supernet
from nas.supernet.training import train
from nas.supernet.workers import Group


def work(rank: int, folder: str, space: SearchSpace, data: DataSplits, recipe: TrainingRecipe) -> None:
    """Train with the other one and leave the weights in `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    supernet = Supernet(space, 10, 1)
    train(supernet, data, recipe, Path(folder) / "two", workers=Group())
    torch.save(supernet.state_dict(), Path(folder) / f"weights-{rank}")
    dist.destroy_process_group()
