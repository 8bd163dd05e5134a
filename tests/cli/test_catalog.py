"""`nas catalog` and `nas describe` of a published backbone."""

import json

from nas.search_spaces.catalog.entry import entries


def test_the_catalogue_lists_every_backbone_with_its_figures(nas):
    rows = json.loads(nas("catalog", "--json").stdout)
    assert [row["name"] for row in rows] == [entry.name for entry in entries()]
    for row in rows:
        assert {"name", "params", "macs", "resolution", "top1", "citation"} <= row.keys()
        assert row["params"] > 1e6
        assert row["macs"] > 1e8
    text = nas("catalog").stdout
    assert all(row["name"] in text for row in rows)
    assert "28.29M" in next(line for line in text.splitlines() if line.startswith("swin_t "))


def test_describe_shows_and_draws_a_published_backbone(nas, tmp_path):
    found = nas("describe", "swin_t", "--svg", "swin.svg")
    assert found.returncode == 0
    assert "window attention" in found.stdout
    assert "28,288,354" in found.stdout or "28.3" in found.stdout or "28.29" in found.stdout
    assert (tmp_path / "swin.svg").read_text().startswith(("<svg", "<?xml"))
    data = json.loads(nas("describe", "swin_t", "--json").stdout)
    assert data["params"] == 28288354


def test_a_misspelt_backbone_is_answered_with_the_nearest(nas):
    found = nas("describe", "swin_tt")
    assert found.returncode == 1
    assert "Did you mean 'swin_t'?" in found.stderr
    assert found.stderr.count("\n") == 1
