"""How the command starts: fast, with help for everything."""

import subprocess
import sys

import pytest

COMMANDS = (
    "agent",
    "search",
    "train",
    "rank",
    "profile",
    "describe",
    "operators",
    "catalog",
    "spaces",
    "export",
    "report",
    "front",
    "bench",
)
HEAVY = ("torch", "optuna", "ray", "numpy", "sklearn", "rich.progress")


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"], ["operators"], ["catalog", "--json"]])
def test_help_and_lists_import_none_of_the_large_libraries(arguments):
    code = f"""
import sys
from nas.__main__ import run
assert run({arguments!r}) == 0
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(nas, command):
    found = nas(command, "--help")
    assert found.returncode == 0
    assert found.stderr == ""
    usage, _, summary = found.stdout.strip().partition("\n\n")
    assert usage.startswith(f"Usage: nas {command}")
    assert summary.split("\n\n")[0].strip().endswith((".", ":")), "a summary in sentences"
    assert "--help" in found.stdout


def test_the_overview_lists_exactly_the_commands(nas):
    listed = nas("--help").stdout.partition("Commands:")[2].split("\n")
    assert sorted(line.split()[0] for line in listed if line.strip()) == sorted(COMMANDS)


def test_python_dash_m_is_the_same_command():
    found = subprocess.run([sys.executable, "-m", "nas", "spaces", "tny"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "error: unknown space 'tny'. Did you mean 'tiny'?\n"


def test_debug_shows_the_traceback():
    found = subprocess.run(
        [sys.executable, "-m", "nas", "spaces", "tny", "--debug"], capture_output=True, text=True, check=False
    )
    assert found.returncode != 0
    assert "Traceback" in found.stderr
    assert "UnknownNameError" in found.stderr
