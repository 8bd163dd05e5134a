"""Opening an Optuna storage by its URL: what is wrong with the URL, the driver or the server in one line, passwords hidden."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from nas.errors import FileError, UnknownNameError, UsageError

KINDS = ("sqlite", "postgresql", "mysql")
_REMEDIES = {"psycopg": 'pip install "hybrid-nas[postgresql]"'}
PASSWORD = "NAS_STORAGE_PASSWORD"
_SECRET = re.compile(r"password|passwd|pwd|secret", re.IGNORECASE)
"""What the name of an option holds whose value is a secret: `password`, `sslpassword`, `passwd` (MySQL's drivers)."""
_GIVEN: dict[str, str] = {}
"""The URLs with passwords that this process was given, by what `withheld` made of them."""
_ATTEMPTS, _PAUSE = 5, 0.2
_PASSING = ("already exists", "is locked")


def open_url(location: str) -> BaseStorage:
    """The storage of a URL; its tables are made where there are none.

    A server's password that the URL lacks is the one that `withheld` took out of it in this process, else that of
    NAS_STORAGE_PASSWORD, else whatever the driver finds (PGPASSWORD, ~/.pgpass). Raises UsageError for a URL that cannot be
    read, UnknownNameError for an unknown kind of database, FileError where the driver is missing or the database cannot be
    reached.
    """
    whole = _completed(location)
    url = _parsed(whole)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for attempt in range(_ATTEMPTS):
        try:
            # A connection that was idle while a candidate was evaluated may have been closed by the server.
            storage = RDBStorage(whole, engine_kwargs={"pool_pre_ping": True})
            return optuna.storages.get_storage(storage)
        except ImportError as error:
            raise FileError(f"cannot open the storage {shown(location)}: {_driver(url, error)}") from error
        except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
            # Where several searches start at once on an empty database, all but one find tables that were made meanwhile.
            if attempt + 1 < _ATTEMPTS and not _unreachable(error):
                time.sleep(_PAUSE)
                continue
            raise FileError(f"cannot open the storage {shown(location)}: {_told(error)}; {_remedy(url)}") from error
    raise AssertionError("the last attempt returns or raises")


def exists(location: str) -> bool:
    """Whether there may be something at a URL: for SQLite whether there is a file."""
    url = _parsed(location)
    return url.get_backend_name() != "sqlite" or Path(str(url.database)).exists()


def absolute(location: str) -> str:
    """A location that means the same in every folder: the file of a journal or of a SQLite database with its whole path.

    Raises UsageError and UnknownNameError as `open_url` does.
    """
    if "://" not in location:
        return str(Path(location).absolute())
    url = _parsed(location)
    if url.get_backend_name() != "sqlite" or str(url.database).startswith("file:"):
        return location
    return url.set(database=str(Path(str(url.database)).absolute())).render_as_string(hide_password=False)


def withheld(location: str) -> str:
    """A location as it may be written down, without passwords; this process remembers them, and `open_url` puts them back.

    Raises UsageError and UnknownNameError as `open_url` does.
    """
    if "://" not in location:
        return location
    url = _parsed(location)
    query = {name: value for name, value in url.query.items() if not _SECRET.search(name)}
    if url.password is None and len(query) == len(url.query):
        return location
    bare = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    found = bare.render_as_string(hide_password=False)
    _GIVEN[found] = location
    return found


def same(first: str, second: str) -> bool:
    """Whether two locations without passwords are one, however they are written."""
    return first == second or ("://" in first and "://" in second and make_url(first) == make_url(second))


def shown(location: str) -> str:
    """A location as it may be printed: a password in a URL is hidden, be it before the host or among the options."""
    kind, is_url, rest = location.partition("://")
    if not is_url:
        return location
    try:
        url = make_url(location)
    except (ArgumentError, ValueError):
        return f"{kind}://..."
    if url.password is not None and rest.count("@") > 1:
        return f"{kind}://{url.username or ''}:***@{rest.rpartition('@')[2]}"  # where the password ends is a guess: the last @
    hidden = url.update_query_dict({name: "***" for name in url.query if _SECRET.search(name)})
    return hidden.render_as_string().replace("%2A%2A%2A", "***")


@contextlib.contextmanager
def reached(location: str) -> Iterator[None]:
    """Turn the errors of a database that fails in the middle of a search into FileError."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise FileError(
            f"the storage {shown(location)} failed: {_told(error)}; all finished candidates are kept, resume when it is back"
        ) from error


def _parsed(location: str) -> URL:
    kind = location.partition("://")[0]
    try:
        url = make_url(location)
        url.get_dialect()
    except NoSuchModuleError as error:
        raise UnknownNameError("kind of storage", kind, KINDS) from error
    except ImportError:
        pass  # a driver, which is told of when it is needed
    except (ArgumentError, ValueError) as error:
        example = "postgresql://user@host/database"
        raise UsageError(f"cannot read the storage URL {shown(location)}; write it like {example} or sqlite:///x.db") from error
    if url.password is not None and "@" in f"{url.host}{url.database}":
        raise UsageError(f"cannot read the storage URL {shown(location)}; write an @ within a name or a password as %40")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UsageError(f"the storage {location} names no file, so that nothing would be kept; write it like sqlite:///x.db")
    return url


def _completed(location: str) -> str:
    """A URL with the password that it lacks, where there is one for it."""
    if location in _GIVEN:
        return _GIVEN[location]
    url, password = _parsed(location), os.environ.get(PASSWORD)
    if not password or url.password is not None or url.get_backend_name() == "sqlite":
        return location
    return url.set(password=password).render_as_string(hide_password=False)


def _remedy(url: URL) -> str:
    """What to do where a database does not open. A run's own URL has lost its password, which may be all that is missing."""
    remedy = "check the URL and whether its server is running"
    if url.password is not None or url.get_backend_name() == "sqlite":
        return remedy
    elsewhere = ", PGPASSWORD, ~/.pgpass" if url.get_backend_name() == "postgresql" else ""
    return f"{remedy}; no run keeps a password: give it by {PASSWORD}{elsewhere} or --storage"


def _driver(url: URL, error: BaseException) -> str:
    """Which package is missing, and what installs it."""
    cause = error.__cause__ or error.__context__
    name = getattr(cause, "name", None) or url.get_driver_name()
    remedy = _REMEDIES.get(name, f"install the package that provides {name}")
    return f"its driver {name} is not installed; {remedy}"


def _unreachable(error: BaseException) -> bool:
    """Whether the database did not answer at all. SQLite says of a table that is there, or locked, what others say of that."""
    cause = error if isinstance(error, DBAPIError) else error.__cause__
    if not isinstance(cause, DBAPIError) or any(words in str(cause.orig) for words in _PASSING):
        return False
    return cause.connection_invalidated or type(cause).__name__ == "OperationalError"


def _told(error: BaseException) -> str:
    """The driver's own words, without the statement and its values."""
    cause = error if isinstance(error, SQLAlchemyError) else (error.__cause__ or error)
    words = str(getattr(cause, "orig", None) or cause)
    return " ".join(words.split())[:300].rstrip(" .;?")
