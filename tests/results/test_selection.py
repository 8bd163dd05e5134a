from __future__ import annotations

from types import SimpleNamespace

import pytest
from known_machine import sampled
from torch import nn

from nas.errors import DivergedError
from nas.results import selection
from nas.results.selection import Selection


def recorded(monkeypatch, tmp_path, slowed, final):
    """The notes that keeping one measurement of a network leaves."""
    notes = []
    run = SimpleNamespace(
        reporter=SimpleNamespace(note=notes.append), verdicts=[], folder=SimpleNamespace(verification=tmp_path / "v.json")
    )
    monkeypatch.setattr(selection, "write_verdicts", lambda path, verdicts: None)
    one = SimpleNamespace(target="cpu:eager", judge=lambda *_, final, energy: SimpleNamespace(accepted=True))
    found = SimpleNamespace(median=4e-3, slowed=slowed, felt=0.7)
    assert Selection(run, lambda *_: None)._record(one, sampled("one", 1)[0], found, None, final=final)
    assert len(run.verdicts) == 1
    return notes


def test_a_device_that_is_slower_than_in_its_profile_is_told_with_the_time_that_was_seen(monkeypatch, tmp_path):
    (note,) = recorded(monkeypatch, tmp_path, 1.5, final=True)
    assert note.startswith("cpu:eager runs 1.50 times slower now")
    assert "the 4 ms told, at the profile's speed, were 5.31 ms" in note


@pytest.mark.parametrize(("slowed", "final"), [(1.0, True), (1.5, False)])
def test_nothing_is_told_of_a_device_at_its_speed_nor_of_each_candidate(monkeypatch, tmp_path, slowed, final):
    assert recorded(monkeypatch, tmp_path, slowed, final) == []


class Member(nn.Module):
    """A network whose accuracy is its name's."""

    def __init__(self, accuracy: float) -> None:
        super().__init__()
        self.accuracy = accuracy


@pytest.mark.parametrize(("lost", "tuned", "wins"), [(True, 0.9, 0.5), (False, 0.9, 0.9), (False, 0.4, 0.5)])
def test_a_winner_whose_fine_tuning_diverges_or_does_worse_keeps_its_inherited_weights(
    monkeypatch, tmp_path, lost, tuned, wins
):
    notes, data = [], SimpleNamespace(validation=None)

    def finetune(network, *_):
        network.accuracy = tuned
        if lost:
            raise DivergedError("the loss is nan at step 3: lower the learning rate (now 0.1)")

    monkeypatch.setattr(selection, "finetune", finetune)
    monkeypatch.setattr(selection, "calibrate", lambda *_: None)
    monkeypatch.setattr(selection, "score", lambda network, *_: network)
    run = SimpleNamespace(
        supernet=SimpleNamespace(extract=lambda _: Member(0.5)), data=data, folder=SimpleNamespace(path=tmp_path),
        config=SimpleNamespace(finetuning="recipe", device="cpu"), reporter=SimpleNamespace(note=notes.append),
    )  # fmt: skip
    network, accuracy = Selection(run, lambda *_: None)._trained(sampled("one", 1)[0])
    assert (network.accuracy, accuracy) == (wins, wins)
    assert [note.partition(": ")[2] for note in notes] == (
        ["the loss is nan at step 3: lower the learning rate (now 0.1)"] if lost else []
    )
