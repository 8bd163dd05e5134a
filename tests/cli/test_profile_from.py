import json
from pathlib import Path

import pytest
from known_machine import made_table

from nas.predictors.latency_table import LatencyTable


@pytest.mark.thorough
def test_a_target_inherits_node_times_from_a_table_by_one_option(nas):
    made_table(train=0).save(Path("known.json"))
    sizes = ["--in-channels", "3", "--networks", "8", "--held-out", "2", "--seconds", "0.5"]
    found = nas("profile", "--json", "--from", "known.json", "--out", "new.json", *sizes)
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["nodes"] == len(LatencyTable.load(Path("known.json")).nodes)
    assert told["networks"] == 10
    inherited = "node times are inherited from cpu:eager,threads=1,batch=1,precision=fp32, and not measured"
    assert told["remarks"][-1] == inherited
    assert ": 0 s for node times" in found.stderr
    kept = LatencyTable.load(Path("new.json")).nodes
    again = nas("profile", "--json", "--out", "new.json", *sizes)
    assert again.returncode == 0, again.stderr
    assert "keeps the node times inherited from cpu:eager,threads=1" in again.stderr
    assert inherited in json.loads(again.stdout)["remarks"]
    assert LatencyTable.load(Path("new.json")).nodes == kept


def test_a_table_of_other_networks_is_refused_in_one_line(nas):
    made_table(train=0, census=3).save(Path("known.json"))
    found = nas("profile", "--from", "known.json", "--out", "new.json", "--in-channels", "1", "--seconds", "0.5")
    assert found.returncode == 1
    assert "give tables of the same networks" in found.stderr.splitlines()[-1]
