"""A small table of results: five layers of three kinds."""

from __future__ import annotations

import itertools
import random


def chain_rows():
    """Five layers of three kinds; accuracy and latency grow with their sum, accuracy not quite."""
    rows = []
    for number, genes in enumerate(itertools.product(range(3), repeat=5)):
        noise = random.Random(number).gauss(0.0, 0.1)
        accuracy = 60 + 3 * sum(genes) - genes[0] * genes[4] + noise
        rows.append(
            [
                number,
                *genes,
                *(round(accuracy + s, 4) for s in (0.0, 0.05, -0.05)),
                accuracy,
                1 + sum(genes),
                100 * sum(genes) + 5,
            ]
        )
    return rows


HEADER = "arch_idx,b0,b1,b2,b3,b4,acc0,acc1,acc2,mean_acc,phone_1,params"


def write(path, header, rows, opener=open):
    with opener(path, "wt") as file:
        file.write("\n".join([header, *(",".join("" if v is None else str(v) for v in row) for row in rows)]) + "\n")
