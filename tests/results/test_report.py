"""The report: complete where there is data, honest where there is none, and safe to open."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nas.results.report import render, write_report
from nas.results.report_data import (
    CandidatePoint,
    EnergyRow,
    ReportData,
    TargetRow,
    TrainingPoint,
    VerificationRow,
    WinnerMetrics,
)
from nas.search_spaces.architecture import Architecture

VOID = {"meta", "br", "use", "path", "image", "hr", "link", "input"}


class Balance(HTMLParser):
    """Checks that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def text_of(html: str) -> str:
    parser = Balance()
    parser.feed(html)
    assert not parser.open
    return " ".join(" ".join(parser.text).split())


@pytest.fixture(scope="module")
def data(mixed: Architecture) -> ReportData:
    rng = random.Random(0)
    candidates = []
    for number in range(40):
        latency = 0.002 + 0.006 * rng.random()
        digest = mixed.digest if number == 7 else f"{number:016x}"
        candidates.append(CandidatePoint(number, digest, 0.8 + 20 * latency, latency, latency <= 0.005, 10**6, 10**8))
    return ReportData(
        title="Backbone for digits",
        target="cpu:onnxruntime,threads=1",
        budgets={"latency": 0.005, "params": 30e6},
        accepted=True,
        candidates=tuple(candidates),
        held_out=((0.003, 0.0031), (0.004, 0.0038), (0.005, 0.0052)),
        assessment={"mape": 0.0412, "within_5": 0.75, "coverage_90": 0.9, "spearman": 0.987, "n": 3},
        training=tuple(TrainingPoint(epoch, 2 / epoch, None if epoch % 2 else 0.5) for epoch in range(1, 9)),
        verification=(VerificationRow(mixed.digest, 0.0046, 0.00477, 0.00474, 0.00481, 0.00495, 0.0051, True),),
        winner=mixed,
        winner_metrics=WinnerMetrics(0.00477, 0.00474, 0.00481, 0.9667, 0.9711, 60600, 1_230_000),
        files={"weights": "runs/digits/winner/weights.safetensors"},
        provenance={"seed": "17", "torch": "2.13.0"},
        durations={"train": 1810.0},
        num_classes=10,
        in_channels=1,
    )


def test_every_number_of_the_run_is_there(data: ReportData) -> None:
    text = text_of(render(data))
    for wanted in (
        "meets the budget (budget: latency 5 ms, params 30M)",
        "4.77 ms latency, 4.74 ms to 4.81 ms",
        "96.67% accuracy on test data",
        "60.6k parameters",
        "1.23M MACs",
        "runs/digits/winner/weights.safetensors",
        "mean absolute error 4.1%",
        "inside the 90 % interval 90.0%",
        "Spearman rank correlation 0.987",
        "4.95 ms 5.1 ms -3.6% accepted",
        "seed 17",
        "train 30 min 10 s",
        "(winner)",
    ):
        assert wanted in text, wanted
    assert "Left out" not in text


def test_energies_are_there_predicted_and_counted(data: ReportData) -> None:
    candidates = tuple(replace(c, others={"energy": 1e-3 + c.latency}) for c in data.candidates)
    found = replace(
        data,
        objectives=("accuracy", "energy"),
        energies=(EnergyRow("cpu:eager", 4e-3, {"mape": 0.02}, 4.2e-3, 4.1e-3, 4.3e-3, "rapl"), EnergyRow("cuda", 7e-3, {})),
        verification=tuple(replace(row, energy=4.25e-3) for row in data.verification),
        candidates=candidates,
    )
    text = text_of(render(found))
    for wanted in (
        "4.2 mJ energy on cpu:eager, counted",
        "7 mJ energy on cuda, predicted",
        "the winner's energy, predicted 4 mJ the winner's energy, counted 4.2 mJ, 4.1 mJ to 4.3 mJ, by rapl",
        "the winner's energy, counted not here: nothing counts it",
        "-3.6% 4.25 mJ accepted",
        "MACs energy within the budgets",
    ):
        assert wanted in text, wanted


def test_further_targets_objectives_and_what_screening_spared_are_there(data: ReportData) -> None:
    other = "cpu:eager,threads=1,batch=2,precision=fp32"
    candidates = tuple(replace(c, others={"memory": 1e6 + c.number}, full=c.number % 2 == 1) for c in data.candidates)
    found = replace(
        data,
        objectives=("accuracy", "latency", "memory"),
        budgets={"latency": 0.005, f"latency@{other}": 0.009, "memory": 2.0**20},
        targets=(TargetRow(other, {"mape": 0.0123}, 0.0061, 0.0072, 0.0071, 0.0074),),
        screening="20 of 40 candidates scored on all 1000 validation images",
        candidates=candidates,
    )
    html = render(found)
    text = text_of(html)
    for wanted in (
        f"latency@{other} 9 ms, memory 1 MiB",
        f"7.2 ms latency on {other}",
        "mean absolute error 1.2%",
        "20 of 40 candidates",
    ):
        assert wanted in text, wanted
    assert html.count("<svg") == 6
    rows = re.findall(r"<tr><td>([0-9a-f]{16})(?: \(winner\))?</td><td class=\"n\">(\d+)</td>", html)
    assert rows
    assert all(int(number) % 2 for _, number in rows), "only what was scored in full is on the front"


def test_all_plots_are_inside_the_file(data: ReportData) -> None:
    html = render(data)
    assert html.count("<svg") == 5
    addresses = set(re.findall(r"(?:src|href)=\"([^\"]*)\"", html))
    assert all(address.startswith("#") for address in addresses), "nothing is fetched"
    assert "<script" not in html
    assert "@import" not in html


def test_what_was_not_verified_is_named_beside_the_verdict(data: ReportData) -> None:
    found = replace(data, budgets={**data.budgets, "energy": 4e-3}, unverified=("energy",))
    text = text_of(render(found))
    assert "measured and meets the budget, but for energy 4 mJ, which it keeps by a prediction: nothing counts it here" in text
    assert "but for" not in text_of(render(data))
    assert "but for" not in text_of(render(replace(found, accepted=False)))


@pytest.mark.parametrize(
    ("accepted", "words"), [(False, "does not meet the budget"), (None, "No exported network was verified")]
)
def test_the_verdict_is_what_was_measured(data: ReportData, accepted: bool | None, words: str) -> None:
    assert words in text_of(render(replace(data, accepted=accepted)))


def test_an_empty_run_says_what_is_missing() -> None:
    text = text_of(render(ReportData("nothing yet")))
    for wanted in ("no candidate was evaluated", "no winner", "not assessed", "no supernet was trained", "no budget was set"):
        assert wanted in text


MISSING = {
    "target": "",
    "budgets": {},
    "candidates": (),
    "held_out": (),
    "assessment": {},
    "training": (),
    "verification": (),
    "winner": None,
    "winner_metrics": None,
    "files": {},
    "provenance": {},
    "durations": {},
}


@pytest.mark.parametrize("name", MISSING)
def test_any_part_may_be_missing(data: ReportData, name: str) -> None:
    text_of(render(replace(data, **{name: MISSING[name]})))


@pytest.mark.parametrize(
    "change",
    [
        {"winner_metrics": WinnerMetrics()},
        {"held_out": ((0.003, 0.0031),)},
        {"training": (TrainingPoint(1, 2.0),)},
    ],
)
def test_partly_known_values_are_shown(data: ReportData, change: dict[str, object]) -> None:
    text_of(render(replace(data, **change)))


def test_one_candidate_or_none_feasible_is_no_trouble(data: ReportData) -> None:
    one = data.candidates[:1]
    text_of(render(replace(data, candidates=one)))
    text_of(render(replace(data, candidates=tuple(replace(c, feasible=False) for c in data.candidates))))


def test_text_from_outside_is_escaped(data: ReportData) -> None:
    evil = "<script>alert(1)</script>"
    candidate = replace(data.candidates[0], digest=evil, latency=0.0001)
    html = render(
        replace(
            data,
            title=evil,
            target=evil,
            budgets={evil: 1.0},
            candidates=(candidate, *data.candidates),
            assessment={evil: 1.0},
            verification=(replace(data.verification[0], digest=evil),),
            files={evil: evil},
            provenance={evil: evil},
            durations={evil: 1.0},
        )
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 10


def test_the_file_is_written_whole(data: ReportData, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", data)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(data)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
