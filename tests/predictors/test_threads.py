"""What is traced runs on one thread, and what comes after it on as many as before."""

import pytest
import torch
from torch import nn

from nas.predictors import cost, memory
from nas.predictors.cost import node_cost
from nas.predictors.memory import node_numbers
from nas.predictors.threads import threads
from nas.predictors.work import operations
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space


class Telling(nn.Identity):
    """Takes down on how many threads it runs."""

    def __init__(self):
        super().__init__()
        self.found = []

    def forward(self, x):
        self.found.append(torch.get_num_threads())
        return x * 1


@pytest.mark.parametrize("trace", ["cost", "memory", "work"])
def test_a_trace_runs_on_one_thread(monkeypatch, trace):
    telling, node = Telling(), nodes(load_space("tiny").smallest(), None, 3, 10)[1]
    for module in (cost, memory):
        monkeypatch.setattr(module, "module_of", lambda node: telling)
        monkeypatch.setattr(module, "_CACHE", {})
    traced = {
        "cost": lambda: node_cost(node),
        "memory": lambda: node_numbers(node),
        "work": lambda: operations(lambda: telling, [(4,)]),
    }
    with threads(3):
        traced[trace]()
        assert torch.get_num_threads() == 3
    assert set(telling.found) == {1}
