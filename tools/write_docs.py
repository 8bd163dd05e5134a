"""Write what is generated from the registry: docs/operators.md, docs/catalog.md and the index that `nas operators` reads.

python tools/write_docs.py            write them
python tools/write_docs.py --check    exit 1 if one is out of date, naming it
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from safetensors import safe_open

from nas.search_spaces import listing
from nas.search_spaces.catalog.entry import entries
from nas.search_spaces.presets import PRESETS, load_space
from nas.search_spaces.registry import Kind, Operator, operators
from nas.search_spaces.space import SearchSpace

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests" / "operators" / "fixtures"
COVERAGE = ROOT / "docs" / "coverage.yaml"
TITLES = {
    Kind.TOKEN_MIXER: "Token mixers",
    Kind.CHANNEL_MIXER: "Channel mixers",
    Kind.STEM: "Stems",
    Kind.DOWNSAMPLE: "Downsamplings",
    Kind.NORM: "Norms",
    Kind.RESIDUAL: "Residuals",
    Kind.HEAD: "Heads",
}
HEADER = "<!-- Written by tools/write_docs.py from the registry: do not edit. -->\n"


def sources() -> dict[tuple[str, str], list[str]]:
    """For each operator, the implementations whose recorded outputs it reproduces."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(FIXTURES.rglob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            about = file.metadata()
        found[about["kind"], about["operator"]].append(about["source"])
    return found


def short(source: str) -> str:
    """`owner/name@commit` or `timm version`, without the rest."""
    if source.startswith("timm"):
        return " ".join(source.split()[:2])
    repository, _, commit = source.split()[0].partition("@")
    return f"{repository.removeprefix('https://github.com/')}@{commit[:7]}"


@cache
def presets() -> dict[str, SearchSpace]:
    """All presets by name; each takes a while to validate."""
    return {name: load_space(name) for name in PRESETS}


def users(op: Operator) -> list[str]:
    """The presets that may choose an operator."""
    found = []
    for name, space in presets().items():
        names = {
            Kind.TOKEN_MIXER: {n for stage in space.mixers for n in stage} | set(space.partners),
            Kind.CHANNEL_MIXER: set(space.channel_mixers),
            Kind.STEM: set(space.stems),
            Kind.DOWNSAMPLE: set(space.downsamples),
            Kind.NORM: set(space.norms),
            Kind.RESIDUAL: {text.partition("(")[0] for text in space.residuals},
            Kind.HEAD: set(space.heads),
        }.get(op.kind, set())
        found += [name] if op.name in names else []
    return found


def coverage(every: dict[tuple[str, str], Operator], official: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    """One row for each entry of the published catalogue of operators."""
    rows = yaml.safe_load(COVERAGE.read_text(encoding="utf-8"))
    covered = {(kind, name) for row in rows for kind, names in row["operators"].items() for name in names}
    missing = sorted(every.keys() - covered)
    if missing:
        raise SystemExit(f"docs/coverage.yaml has no row for {missing[0][0]} {missing[0][1]!r}: add it to one")
    yield "| published operator | here | checks passed | presets |"
    yield "|---|---|---|---|"
    for row in rows:
        names, checks, presets = [], [], set[str]()
        for kind, names_of_kind in row["operators"].items():
            for name in names_of_kind:
                op = every[kind, name]
                compared = sorted({short(source) for source in official.get((kind, name), [])})
                formula = ", formula" if kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER) else ""
                names.append(f"`{name}`" + (f" ({kind.replace('_', ' ')})" if kind != Kind.TOKEN_MIXER else ""))
                checks.append(f"`{name}`: reference{formula}" + (f", {', '.join(compared)}" if compared else ""))
                presets |= set(users(op))
        names += [f"{text}" for text in row.get("composed", [])]
        yield f"| {row['entry']} | {'; '.join(names)} | {'; '.join(checks)} | {', '.join(sorted(presets))} |"


def operator_rows(kind: Kind, official: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    """What is registered under one kind."""
    for op in operators(kind):
        yield f"### `{op.name}`\n"
        yield f"{op.summary}\n"
        for name, setting in op.settings.items():
            default = "" if setting.default is None else f" (default {setting.default})"
            yield f"- `{name}`: {', '.join(map(str, setting.choices))}{default}; {setting.because}"
        if op.settings:
            yield ""
        yield f"Source: {op.cite}."
        for source in sorted(set(official.get((kind, op.name), []))):
            yield f"Compared with {source}."
        yield ""


def operators_page() -> str:
    """docs/operators.md."""
    every, official = {(op.kind.value, op.name): op for op in operators()}, sources()
    intro = (ROOT / "docs" / "operators.head.md").read_text(encoding="utf-8")
    parts = [HEADER, intro, "## Coverage\n", *coverage(every, official), ""]
    for kind, title in TITLES.items():
        parts += [f"## {title}\n", *operator_rows(kind, official)]
    return "\n".join(parts).rstrip() + "\n"


def catalog_page() -> str:
    """docs/catalog.md."""
    rows = [
        f"| `{e.name}` | {e.params:,} | {e.macs / 1e9:.2f} G | {e.resolution} | {'' if e.top1 is None else e.top1} "
        f"| {(e.timm and f'`{e.timm}`') or ''} | {e.cite}; {e.source}{f'. {e.note}' if e.note else ''} |"
        for e in entries()
    ]
    intro = (ROOT / "docs" / "catalog.head.md").read_text(encoding="utf-8")
    head = ["| name | parameters | MACs | pixels | top-1 | weights from timm | sources |", "|---|---|---|---|---|---|---|"]
    return "\n".join([HEADER, intro, *head, *rows]) + "\n"


def main() -> int:
    """Write the files, or with --check compare them."""
    pages = {
        ROOT / "docs" / "operators.md": operators_page(),
        ROOT / "docs" / "catalog.md": catalog_page(),
        listing.INDEX: listing.index(),
    }
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path} is out of date: run make docs\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
