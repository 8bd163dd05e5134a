"""Storages by URL: what is wrong with one is told in a line, without its password, and nothing is made by looking."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, OperationalError

from nas.errors import FileError, NasError, UnknownNameError, UsageError
from nas.search import storage
from nas.search.archive import Archive

SECRET = "hunter2"
WRONG = {
    "an unknown kind": ("postgres://me:hunter2@host/x", UnknownNameError, "unknown kind of storage 'postgres'"),
    "the nearest kind": ("sqllite:///x.db", UnknownNameError, "Did you mean 'sqlite'?"),
    "an unknown driver": ("postgresql+quick://me:hunter2@host/x", UnknownNameError, "kind of storage 'postgresql+quick'"),
    "a port": ("postgresql://me:hunter2@host:many/x", UsageError, "write it like postgresql://user@host/database"),
    "no kind": ("://x", UsageError, "cannot read the storage URL"),
    "no file": ("sqlite://", UsageError, "names no file, so that nothing would be kept"),
    "memory": ("sqlite:///:memory:", UsageError, "names no file, so that nothing would be kept"),
    "an @ in a password": ("postgresql://me:hun@hunter2/x@host/x", UsageError, "write an @ within a name or a password as %40"),
    "no folder": ("sqlite:////nowhere/at/all/x.db", FileError, "unable to open database file"),
}


@pytest.mark.parametrize(("url", "kind", "words"), WRONG.values(), ids=WRONG)
def test_a_url_that_leads_nowhere_is_told_in_one_line(problem, url, kind, words):
    with pytest.raises(kind) as raised:
        Archive(url, problem.space)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "package", "remedy"),
    [
        (f"postgresql+psycopg://me:{SECRET}@host/x", "psycopg", 'pip install "hybrid-nas[postgresql]"'),
        (f"postgresql+psycopg2://me:{SECRET}@host/x", "psycopg2", "install the package that provides psycopg2"),
        (f"mysql://me:{SECRET}@host/x", "MySQLdb", "install the package that provides MySQLdb"),
    ],
)
def test_a_driver_that_is_missing_is_named_with_what_installs_it(problem, monkeypatch, url, package, remedy):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FileError) as raised:
        Archive(url, problem.space)
    assert f"its driver {package} is not installed; {remedy}" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_server_that_does_not_answer_is_asked_once(problem, monkeypatch):
    asked = []

    def refuse(url, **_):
        asked.append(url)
        raise OperationalError("select 1", {}, Exception("connection refused\nIs the server running?"))

    monkeypatch.setattr(storage, "RDBStorage", refuse)
    with pytest.raises(FileError, match="connection refused Is the server running; check the URL") as raised:
        Archive(f"postgresql://me:{SECRET}@host/x", problem.space)
    assert asked == [f"postgresql://me:{SECRET}@host/x"], "the password is hidden from people alone"
    assert "postgresql://me:***@host/x" in str(raised.value)
    assert "no run keeps a password" not in str(raised.value)


@pytest.mark.parametrize("kind", [IntegrityError, OperationalError])
def test_tables_that_another_search_makes_at_the_same_moment_are_used(tmp_path, problem, monkeypatch, kind):
    real, asked = storage.RDBStorage, []

    def late(url, **options):
        asked.append(url)
        if len(asked) < 3:
            raise kind("create table studies", {}, Exception("table studies already exists"))
        return real(url, **options)

    monkeypatch.setattr(storage, "RDBStorage", late)
    monkeypatch.setattr(storage, "_PAUSE", 0.0)
    with Archive(f"sqlite:///{tmp_path / 'x.db'}", problem.space) as archive:
        assert archive.trials() == []
    assert len(asked) == 3


def test_a_database_that_fails_in_the_middle_of_a_search_is_told(tmp_path, problem, fake, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # Optuna tries again, later and later
    path = tmp_path / "x.db"
    archive = Archive(f"sqlite:///{path}", problem.space)
    trial = fake.finished(problem, 0, problem.space.smallest())
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE trials")
    for work in (
        archive.refresh,
        archive.elsewhere,
        lambda: archive.add(trial),
        lambda: archive.reserve(0, trial.architecture),
    ):
        with pytest.raises(FileError, match=r"the storage sqlite:.* failed: no such table: trials; all finished candidates"):
            work()


def test_looking_at_a_database_that_is_not_there_makes_none(tmp_path, problem):
    path = tmp_path / "x.db"
    assert Archive(f"sqlite:///{path}", problem.space, reading=True).trials() == []
    assert not path.exists()


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1), st.integers(1, 65535))
def test_whatever_a_password_is_it_is_not_shown(password, port):
    url = URL.create("postgresql", "me", password, "host", port, "x")
    shown = storage.shown(url.render_as_string(hide_password=False))
    assert make_url(shown) == url.set(password="***")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me@host/x?password={SECRET}",
        f"postgresql+psycopg://host/x?user=me&password={SECRET}&sslpassword={SECRET}",
        f"mysql://host/x?user=me&passwd={SECRET}",
        f"postgresql://me:an@{SECRET}@host/x",
        f"postgresql://me:an@{SECRET}/x@host/x?sslmode=require",
        f"postgresql://me:{SECRET}?a@b@host/x",
    ],
)
def test_a_password_is_hidden_wherever_it_stands(url):
    shown = storage.shown(url)
    assert SECRET not in shown
    assert "***" in shown
    assert "host/x" in shown


def test_a_database_and_a_journal_mean_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///x.db", "sqlite:///x.db?timeout=3", "x.journal"):
        found = storage.absolute(url)
        assert str(tmp_path / "x.") in found
        monkeypatch.chdir("/")
        assert storage.absolute(found) == found
        monkeypatch.chdir(tmp_path)
    server = f"postgresql://me:{SECRET}%40@host/x"
    assert storage.absolute(server) == server


@given(st.text())
def test_a_journals_path_is_shown_as_it_is(text):
    assert storage.shown(text) == text or "://" in text


@given(st.text())
def test_no_url_is_too_odd_to_be_read_or_refused(text):
    with contextlib.suppress(NasError):
        storage.exists(f"postgresql://{text}")
    assert storage.shown(f"postgresql://{text}").startswith("postgresql://")


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        (f"postgresql://me:{SECRET}@host/x", "postgresql://me@host/x"),
        (f"mysql://me:{SECRET}@host:3306/x?charset=utf8", "mysql://me@host:3306/x?charset=utf8"),
        (
            f"postgresql://host/x?user=me&password={SECRET}&sslpassword={SECRET}&sslmode=require",
            "postgresql://host/x?sslmode=require&user=me",
        ),
        (f"mysql://host/x?user=me&passwd={SECRET}&charset=utf8", "mysql://host/x?charset=utf8&user=me"),
        ("postgresql://me@host/x", "postgresql://me@host/x"),
        ("postgresql://me@host/x?passfile=mine", "postgresql://me@host/x?passfile=mine"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("x.journal", "x.journal"),
    ],
)
def test_a_location_without_its_password_opens_with_it_in_this_process_alone(url, bare, monkeypatch):
    monkeypatch.setattr(storage, "_GIVEN", {})
    assert storage.withheld(url) == bare
    assert storage.withheld(bare) == bare
    if "x.journal" not in url:
        assert make_url(storage._completed(bare)) == make_url(url)
        monkeypatch.setattr(storage, "_GIVEN", {})
        assert storage._completed(bare) == bare


def test_a_password_of_the_environment_is_for_servers_whose_url_has_none(monkeypatch):
    monkeypatch.setattr(storage, "_GIVEN", {})
    monkeypatch.setenv("NAS_STORAGE_PASSWORD", "a@b:c/d")
    assert make_url(storage._completed("postgresql://me@host/x")).password == "a@b:c/d"
    for url in ("sqlite:///x.db", f"postgresql://me:{SECRET}@host/x"):
        assert storage._completed(url) == url


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1))
def test_whatever_a_password_is_it_is_withheld(password):
    url = URL.create("postgresql", "me", password, "host", None, "x")
    assert storage.withheld(url.render_as_string(hide_password=False)) == "postgresql://me@host/x"
    assert make_url(storage._completed("postgresql://me@host/x")) == url


def test_urls_are_the_same_however_they_are_written():
    assert storage.same("postgresql://me@host/x?b=1&a=%32", "postgresql://me@host/x?a=2&b=1")
    assert not storage.same("postgresql://me@host/x", "postgresql://you@host/x")
    assert not storage.same("x.journal", "postgresql://me@host/x")
