"""What every test shares: one thread, no network, a quick folder for what it writes, and the folder of real data."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import settings

import store_flush
from chromium import axe as axe
from chromium import browser as browser

ROOT = Path(__file__).resolve().parent.parent
MEMORY = Path("/dev/shm")
IN_CI = os.environ.get("CI", "") not in ("", "0", "false")

if find_spec("ray") is None:  # `make test-ray` has it, in an environment of its own
    collect_ignore_glob = ["pipeline/test_on_ray.py", "pipeline/test_ray_scorers.py", "pipeline/test_ray_train.py"]

ASKS = {"db", "transactional_db", "live_server", "database"}
"""Fixtures of a test that reads or writes the database; `database` is one of its own, for processes. The rest asks for
none, so that one proof is enough: on SQLite's run."""

# Examples are timed on a machine that other work shares, so no deadline; in CI the same examples each time.
settings.register_profile("heedful", deadline=None, derandomize=IN_CI)
settings.load_profile("heedful")


def write_in_memory() -> None:
    """Let what tests write lie in memory where there is room: elsewhere each commit and manifest waits for the disk."""
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 * 2**30:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # pytest has asked for the other one already


def pytest_configure(config: pytest.Config) -> None:
    """Configure Django once, on a SQLite file, or on the server that HEEDFUL_TEST_DATABASE names."""
    write_in_memory()
    from django.conf import settings as django_settings

    from heedful.studio.setup import configure

    if django_settings.configured:
        return
    folder = Path(tempfile.mkdtemp(prefix="heedful-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    server = os.environ.get("HEEDFUL_TEST_DATABASE", "")
    quick = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a real one takes a third of a second an account
    configure(
        server or f"sqlite:///{folder}/unused.db",
        SECRET_KEY="only-for-tests",
        PASSWORD_HASHERS=quick,
        HEEDFUL_FOLDER=str(folder),
    )
    if not server:
        django_settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(folder / "test.db")
    store_flush.install()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is of the other kind of database, and on a server what asks for no database."""
    server = bool(os.environ.get("HEEDFUL_TEST_DATABASE"))

    def wanted(item: pytest.Item) -> bool:
        if item.get_closest_marker("on_sqlite" if server else "on_postgresql"):
            return False
        return not server or bool(item.get_closest_marker("django_db") or ASKS & set(getattr(item, "fixturenames", ())))

    left = [item for item in items if not wanted(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if wanted(item)]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: garbage is looked for later, and not among that."""
    gc.disable()
    done = yield
    gc.freeze()
    gc.enable()
    return done


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real preference files (HEEDFUL_SHARED_DATA, or ../shared/data).

    Where it is missing, the tests that ask for it are skipped; in CI they fail.
    """
    folder = Path(os.environ.get("HEEDFUL_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"the real data is not at {folder}; set HEEDFUL_SHARED_DATA"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def jailed() -> None:
    """A sandbox for generated code that works. Missing: the test is skipped, and a failure in CI."""
    from heedful.errors import HeedfulError
    from heedful.sandbox import jail

    try:
        jail.check()
    except HeedfulError as error:
        if IN_CI:
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def beside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test open databases beside the one that it runs on; Django's test cases forbid it."""
    from django.db.backends.base.base import BaseDatabaseWrapper

    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("_django_db_helper")
    guarded = BaseDatabaseWrapper.ensure_connection

    def ensure(self: Any) -> None:
        if self.connection is None and self.alias.startswith("beside-"):
            with self.wrap_database_errors:
                self.connect()
        else:
            guarded(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", ensure)
