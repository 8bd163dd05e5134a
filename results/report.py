"""`report.html`: one file that needs no network and no script, with every number the run rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from nas.files import write_text
from nas.quantities import format_count, format_duration, format_energy, format_time
from nas.results.draw import draw
from nas.results.front import axes_of, undominated
from nas.results.plots import front_plot, latency_plot, progress_plot, training_plot
from nas.results.report_data import EnergyRow, ReportData, TargetRow
from nas.search.types import format_metric

_LABELS = {
    "mape": "mean absolute error",
    "within_5": "within 5 %",
    "within_10": "within 10 %",
    "coverage_90": "inside the 90 % interval",
    "spearman": "Spearman rank correlation",
    "kendall": "Kendall rank correlation",
    "supernet_spearman": "supernet against standalone training, Spearman",
    "supernet_kendall": "supernet against standalone training, Kendall",
    "n": "networks",
}
_FRACTIONS = frozenset({"mape", "within_5", "within_10", "coverage_90"})
_ROWS = 50

CSS = """
:root { color-scheme: light dark; --ink: #22262b; --soft: #5b6470; --line: #dde1e7; --card: #f6f7f9; --page: #fff;
  --good: #1f7a4d; --bad: #b3362b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a5adb8; --line: #3a4048; --card: #262a30;
  --page: #1b1e22; --good: #6fcf97; --bad: #ff8a7d; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 62rem;
  margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); } code { font-size: .9em; overflow-wrap: anywhere; }
.verdict { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.card { flex: 1 1 10rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem; }
.card b { display: block; font-size: 1.35rem; } .card span { color: var(--soft); font-size: .85rem; }
figure { margin: .6rem 0; background: #fff; border: 1px solid var(--line); border-radius: .5rem; padding: .6rem;
  overflow-x: auto; text-align: center; }
svg { max-width: 100%; height: auto; } .wide { overflow-x: auto; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; } .beside > * { flex: 1 1 22rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; }
td.n { white-space: nowrap; }
"""


def write_report(path: Path, data: ReportData) -> None:
    """Write the report atomically. Raises FileError where it cannot be written."""
    write_text(path, render(data))


def render(data: ReportData) -> str:
    """The HTML of the report."""
    sections: list[tuple[str, Callable[[ReportData], str]]] = [
        ("The trade-off", _front_section),
        ("The network", _winner_section),
        ("Latency predictor on held-out networks", _predictor_section),
        ("Measured as exported", _verification_section),
        ("Progress of the search", _progress_section),
        ("Training of the supernet", _training_section),
        ("The front", _table_section),
        ("Where this comes from", _provenance_section),
    ]
    body = "\n".join(f"<section>\n<h2>{escape(name)}</h2>\n{section(data)}\n</section>" for name, section in sections)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(data.title)}</title>\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n{_headline(data)}\n{body}\n</body>\n</html>\n"
    )


def _headline(data: ReportData) -> str:
    metrics = data.winner_metrics
    cards = []
    if metrics is not None:
        interval = (
            f"latency, {format_time(metrics.latency_low)} to {format_time(metrics.latency_high)}"
            if metrics.latency_low is not None and metrics.latency_high is not None
            else "latency"
        )
        cards = [
            (interval, metrics.latency and format_time(metrics.latency)),
            ("accuracy on test data", _percent(metrics.accuracy_test)),
            ("accuracy on validation data", _percent(metrics.accuracy_validation)),
            ("parameters", metrics.params and format_count(metrics.params)),
            ("MACs", metrics.macs and format_count(metrics.macs)),
        ]
    cards += [(f"latency on {row.target}", format_time(row.measured)) for row in data.targets]
    cards += [(_energy_title(row), format_energy(row.counted or row.predicted)) for row in data.energies]
    shown = "".join(f'<div class="card"><b>{value}</b><span>{escape(name)}</span></div>' for name, value in cards if value)
    target = f'<p class="soft">for <code>{escape(data.target)}</code></p>' if data.target else ""
    files = "".join(f"<li>{escape(name)}: <code>{escape(place)}</code></li>" for name, place in data.files.items())
    return (
        f"<header>\n<h1>{escape(data.title)}</h1>\n{target}\n{_verdict(data)}\n"
        f'<div class="cards">{shown}</div>\n{f"<p>Files</p><ul>{files}</ul>" if files else ""}\n</header>'
    )


def _verdict(data: ReportData) -> str:
    limits = ", ".join(f"{name} {format_metric(name, limit)}" for name, limit in data.budgets.items())
    asked = f"budget: {escape(limits)}" if limits else "no budget was set"
    text, mood = {
        True: ("The exported network was measured and meets the budget", "good"),
        False: ("The exported network was measured and does not meet the budget", "bad"),
        None: ("No exported network was verified by measurement", "soft"),
    }[data.accepted]
    if data.accepted and data.unverified:
        told = ", ".join(f"{name} {format_metric(name, data.budgets[name])}" for name in data.unverified)
        text, mood = f"{text}, but for {escape(told)}, which it keeps by a prediction: nothing counts it here", "soft"
    return f'<p class="verdict {mood}">{text} ({asked}).</p>'


def _front_section(data: ReportData) -> str:
    if not data.candidates:
        return _missing("no candidate was evaluated")
    winner = data.winner.digest if data.winner is not None else None
    shown = [name for name in ("latency", *data.objectives) if name not in ("accuracy", "loss")]
    return "".join(_figure(front_plot(data.candidates, data.budgets.get(x), winner, x)) for x in dict.fromkeys(shown))


def _winner_section(data: ReportData) -> str:
    if data.winner is None:
        return _missing("the run has no winner")
    side = data.winner.resolution
    return (
        f"<p>Digest <code>{data.winner.digest}</code>, {data.winner.depth} blocks, made for {side} x {side} pixels. "
        "Columns are stages (height x width x channels); parallel mixers stand side by side.</p>"
        + _figure(draw(data.winner, None, data.num_classes, data.in_channels))
    )


def _predictor_section(data: ReportData) -> str:
    rows = [(_LABELS.get(name, name), _score(name, value)) for name, value in data.assessment.items()]
    table = _table(("", "#"), rows) if rows else _missing("the predictor was not assessed")
    others = "".join([*map(_other_target, data.targets), *map(_energy, data.energies)])
    if not data.held_out:
        return table + _missing("no network was held out") + others
    return f'<div class="beside">{_figure(latency_plot(data.held_out))}<div>{table}</div></div>{others}'


def _other_target(row: TargetRow) -> str:
    rows = [
        ("the winner, predicted", format_time(row.predicted)),
        ("the winner, measured", f"{format_time(row.measured)}, {format_time(row.low)} to {format_time(row.high)}"),
        *((_LABELS.get(name, name), _score(name, value)) for name, value in row.assessment.items()),
    ]
    return f"<p>On <code>{escape(row.target)}</code></p>{_table(('', '#'), rows)}"


def _energy_title(row: EnergyRow) -> str:
    return f"energy on {row.target}, {'predicted' if row.counted is None else 'counted'}"


def _energy(row: EnergyRow) -> str:
    found = "not here: nothing counts it"
    if row.counted is not None and row.low is not None and row.high is not None:
        found = f"{format_energy(row.counted)}, {format_energy(row.low)} to {format_energy(row.high)}, by {row.meter}"
    rows = [
        ("the winner's energy, predicted", format_energy(row.predicted)),
        ("the winner's energy, counted", found),
        *((_LABELS.get(name, name), _score(name, value)) for name, value in row.assessment.items()),
    ]
    return f"<p>Energy of a run on <code>{escape(row.target)}</code></p>{_table(('', '#'), rows)}"


def _verification_section(data: ReportData) -> str:
    if not data.verification:
        return _missing("no network was measured as exported")
    counted = any(row.energy is not None for row in data.verification)
    rows = [
        (
            row.digest,
            format_time(row.predicted),
            format_time(row.measured),
            f"{format_time(row.low)} to {format_time(row.high)}",
            format_time(row.p90),
            format_time(row.p99),
            f"{row.predicted / row.measured - 1:+.1%}" if row.measured > 0 else "unknown",
            *([format_energy(row.energy) if row.energy is not None else ""] if counted else []),
            "accepted" if row.accepted else "refused",
            *([row.target] if data.targets else []),
        )
        for row in data.verification
    ]
    head = (
        "network",
        "#predicted",
        "#measured median",
        "#its interval",
        "#90th percentile",
        "#99th",
        "#prediction error",
        *(["#energy"] if counted else []),
        "verdict",
    )
    return _table((*head, "target") if data.targets else head, rows)


def _progress_section(data: ReportData) -> str:
    if not data.candidates:
        return _missing("no candidate was evaluated")
    spared = f"<p>{escape(data.screening)}.</p>" if data.screening else ""
    return spared + _figure(progress_plot(data.candidates, data.budgets.get("latency")))


def _training_section(data: ReportData) -> str:
    return _figure(training_plot(data.training)) if data.training else _missing("no supernet was trained in this run")


def _table_section(data: ReportData) -> str:
    if not data.candidates:
        return _missing("no candidate was evaluated")
    full = [candidate for candidate in data.candidates if candidate.full]
    costs = [[-c.accuracy if x == "accuracy" else c.value(x) for x in axes_of(data.objectives)] for c in full]
    front = sorted((full[i] for i in undominated(costs)), key=lambda c: c.latency)
    winner = data.winner.digest if data.winner is not None else None
    others = [name for name in data.objectives if front and all(name in c.others for c in front)]
    rows = [
        (
            c.digest + (" (winner)" if c.digest == winner else ""),
            str(c.number),
            f"{c.accuracy:.2%}",
            format_time(c.latency),
            format_count(c.params),
            format_count(c.macs),
            *(format_metric(name, c.value(name)) for name in others),
            "yes" if c.feasible else "no",
        )
        for c in front[:_ROWS]
    ]
    columns = ("network", "#evaluation", "#accuracy", "#predicted latency", "#parameters", "#MACs")
    head = (*columns, *(f"#{name}" for name in others), "within the budgets")
    rest = f'<p class="soft">The {_ROWS} fastest of {len(front)}; all are in front.csv.</p>' if len(front) > _ROWS else ""
    return _table(head, rows) + rest


def _provenance_section(data: ReportData) -> str:
    facts = [(name, value) for name, value in data.provenance.items()]
    times = [(name, format_duration(seconds)) for name, seconds in data.durations.items()]
    left = _table(("", ""), facts) if facts else _missing("the run did not record it")
    right = _table(("phase", "#time"), times) if times else _missing("no durations were recorded")
    return f'<div class="beside"><div>{left}</div><div>{right}</div></div>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns whose heading begins with `#` are numbers."""
    kinds = [' class="n"' if name.startswith("#") else "" for name in head]
    names = "".join(f"<th{kind}>{escape(name.lstrip('#'))}</th>" for kind, name in zip(kinds, head, strict=True))
    top = f"<thead><tr>{names}</tr></thead>" if any(name.strip("#") for name in head) else ""
    lines = (
        "<tr>" + "".join(f"<td{kind}>{escape(str(cell))}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table>{top}<tbody>{"".join(lines)}</tbody></table></div>'


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>"


def _missing(why: str) -> str:
    return f'<p class="soft">Left out: {escape(why)}.</p>'


def _percent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{fraction:.2%}"


def _score(name: str, value: float) -> str:
    return f"{value:.1%}" if name in _FRACTIONS else f"{value:.3g}"
