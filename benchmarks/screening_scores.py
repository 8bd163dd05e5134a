"""A table of random members of a supernet's space, each scored by everything that a search might screen by.

    nas train --space tiny --data parquet:DIR --train-images 10000 --validation-images 5000 --epochs 30 --out runs/super
    python benchmarks/screening_scores.py --run runs/super --out runs/screening [--members 600] [--images 1024]

One line of `scores.jsonl` a member: its sizes, which of the images it gets right, its loss on each, and the zero-cost proxies
on a batch of them, with inherited weights and for some members with fresh ones; all with processor seconds. A stopped run goes
on where it was.
`benchmarks/search_screening.py` plays searches from the table.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from search_supernet import append, spread, whole_lines
from torch import nn
from torch.nn import functional as F

from nas.predictors.proxies import proxy, proxy_names
from nas.results.run import Run
from nas.search.evaluation import sizes
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.space import SearchSpace
from nas.supernet.calibration import calibrate
from nas.supernet.checkpoint import load_checkpoint
from nas.supernet.data import DataSplits, load_data
from nas.supernet.supernet import Supernet

BATCH = 32
"""Images that a proxy looks at."""
FRESH = [name for name in proxy_names() if name not in ("macs", "params")]
"""Proxies that depend on the weights; zen draws them itself."""
INHERITED = [name for name in FRESH if name != "zen"]
_CHUNK = 128


@dataclass(frozen=True)
class Table:
    """What the members are scored with."""

    space: SearchSpace
    supernet: Supernet
    data: DataSplits
    untrained: int
    about: dict[str, Any]

    def row(self, number: int) -> dict[str, Any]:
        """The member of a number and its scores."""
        architecture = self.space.sample(random.Random(f"screening:{number}"))
        side = architecture.resolution
        network, extracting = timed(lambda: self.supernet.extract(architecture))
        inherited = self.proxies(network, side, INHERITED)
        fresh, building = timed(lambda: self.fresh(architecture))
        untrained = self.proxies(fresh, side, FRESH) if number < self.untrained else {}
        _, calibrating = timed(lambda: calibrate(network.eval(), self.data, side))
        (right, losses), scoring = timed(lambda: self.scored(network, side))
        seconds = {"extract": extracting, "build": building, "calibrate": calibrating, "images": scoring}
        return {
            "number": number,
            "architecture": architecture.to_json(),
            "sizes": sizes(architecture, *self.outputs),
            "right": right,
            "losses": losses,
            "seconds": seconds,
            "inherited": inherited,
            "fresh": untrained,
        }

    def fresh(self, architecture: Architecture) -> nn.Module:
        """The network with weights of its own, drawn from one seed."""
        torch.manual_seed(0)
        return build(architecture, *self.outputs)

    @property
    def outputs(self) -> tuple[int, int]:
        """Classes and input channels."""
        return len(self.data.classes), self.data.in_channels

    def proxies(self, network: nn.Module, side: int, names: list[str]) -> dict[str, tuple[float, float]]:
        """The value and the seconds of proxies on a batch at equal steps through the images."""
        few = self.data.validation.take(spread(len(self.data.validation), BATCH))
        images = self.data.prepare(few.images, side)
        found = {name: timed(lambda name=name: proxy(name).score(network, images, few.labels)) for name in names}
        return {name: (value, seconds) for name, (value, seconds) in found.items()}

    def scored(self, network: nn.Module, side: int) -> tuple[str, list[float]]:
        """Which images are classified rightly, as the bits of a hexadecimal number, and the loss of each."""
        part, right, losses = self.data.validation, [], []
        with torch.inference_mode():
            for start in range(0, len(part), _CHUNK):
                logits = network.eval()(self.data.prepare(part.images[start : start + _CHUNK], side))
                labels = part.labels[start : start + _CHUNK]
                right.append(logits.argmax(1) == labels)
                losses.append(F.cross_entropy(logits, labels, reduction="none"))
        return np.packbits(torch.cat(right).numpy()).tobytes().hex(), [round(float(loss), 3) for loss in torch.cat(losses)]


def timed(work: Any) -> tuple[Any, float]:
    """What `work()` gives, and the processor seconds it took."""
    began = time.process_time()
    found = work()
    return found, round(time.process_time() - began, 4)


def read_table(path: Path, images: int, untrained: int) -> Table:
    """The supernet, the space and `images` validation images of a run; the first `untrained` members get fresh weights too."""
    run = Run.open(path)
    config = run.config()
    space = config.search_space()
    data = load_data(config.data, max(space.resolutions), config.train_images, config.validation_images)
    data = replace(data, validation=data.validation.take(spread(len(data.validation), images)))
    supernet = Supernet(space, len(data.classes), data.in_channels, unshared=config.training.unshared)
    with safe_open(str(run.checkpoint), framework="pt") as file:
        identity = file.metadata()["identity"]
    _, averages = load_checkpoint(run.checkpoint, supernet, None, identity)
    supernet.load_state_dict(averages, strict=False)
    about = {"weights": identity, "data": config.data, "images": len(data.validation), "batch": BATCH}
    return Table(space, supernet.eval(), data, untrained, about)


def main() -> None:
    """Score the members that are not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run folder with a trained supernet")
    parser.add_argument("--out", type=Path, default=Path("runs/screening"))
    parser.add_argument("--members", type=int, default=600)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--untrained", type=int, default=150, help="members that proxies see with fresh weights too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table, path = read_table(options.run, options.images, options.untrained), options.out / "scores.jsonl"
    about = {**table.about, "space": table.space.to_mapping()}
    lines = whole_lines(path)
    if not lines:
        append(path, about)
    elif lines[0] != about:
        raise SystemExit(f"{path} holds scores of other weights, data or images; choose another --out")
    known = {line["number"] for line in lines[1:]}
    for number in range(options.members):
        if number not in known:
            append(path, table.row(number))
            print(number + 1, "of", options.members, flush=True)


if __name__ == "__main__":
    main()
