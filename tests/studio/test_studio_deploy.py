"""What lies in deploy/ says what this version of the command line takes. No image is built and no unit started here."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import command_read
from heedful.cli.command import parse
from heedful.studio.config import StudioConfig
from heedful.studio.metrics import TOKEN

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ROOT = DEPLOY.parent
GIVEN = {
    "HEEDFUL_PUBLIC_URL": "https://studio.example.org",
    "POSTGRES_PASSWORD": "letters",
    "HEEDFUL_METRICS_TOKEN": "more letters",
}
READ_ELSEWHERE = {"DATABASE_URL", TOKEN}
"""Variables that the studio reads, besides those that only fill in a line."""


def settings_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings that `heedful` makes of a line, checked as it checks them."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://heedful@database/heedful")
    assert words[:2] == ["heedful", "studio"], words
    rest = words[2:]
    under = rest[0] if rest and rest[0] in command_read.UNDER["studio"] else ""
    way = command_read.usage("studio", under)
    assert way is not None
    return parse(way.settings, "studio", rest[1:] if under else rest).settings


def filled(text: str) -> str:
    """A text of a unit or of a compose file with its variables filled in."""
    text = re.sub(r"\$\{(\w+)(?::\?[^}]*)?\}", lambda found: GIVEN[found[1]], text)
    return text.replace("$$", "$").replace("%%", "%")


def inner(line: str) -> str:
    """What `sh -c` runs, with the date that it asks for."""
    return re.sub(r"\$\(date [^)]*\)", "2026-01-01", line.removeprefix("exec "))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return found


def instructions(name: str = "Containerfile") -> list[tuple[str, str]]:
    """(word, rest) of a container file's lines."""
    text = (DEPLOY / name).read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines]


def entrypoint() -> list[str]:
    """The container's own words."""
    [line] = [rest for word, rest in instructions() if word == "ENTRYPOINT"]
    words: list[str] = yaml.safe_load(line)
    return words


def test_the_composed_studio_is_one_that_the_command_line_takes(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = compose["services"]
    config = settings_of(entrypoint() + [filled(word) for word in services["studio"]["command"]], monkeypatch)
    assert isinstance(config, StudioConfig)
    assert (config.host, config.workers, config.log_format) == ("0.0.0.0", 4, "json")
    [network] = compose["networks"]["inside"]["ipam"]["config"]
    assert config.trusted_proxies == (network["gateway"],)
    assert services["studio"]["volumes"] == [f"studio:{config.folder}"]
    assert services["studio"]["ports"] == ["127.0.0.1:8400:8400"], "its proxy is on this machine"
    assert config.port == 8400
    assert not settings_of(services["migrate"]["entrypoint"], monkeypatch).check
    shell, flag, line = services["backup"]["entrypoint"]
    assert (shell, flag) == ("sh", "-c")
    assert settings_of(shlex.split(inner(filled(line))), monkeypatch).out.parent == Path("/backups")


def test_the_composed_services_fit_each_other_and_hold_no_secret(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, one in services.items():
        assert set(one.get("depends_on", {})) <= set(services)
        named = [volume.split(":")[0] for volume in one["volumes"] if not volume.startswith((".", "/"))]
        assert set(named) <= set(compose["volumes"]), name
        assert set(one["networks"]) <= set(compose["networks"])
    studio, database = services["studio"]["environment"], services["database"]["environment"]
    assert set(studio) == READ_ELSEWHERE
    from heedful.feedback.setup import database as settings

    chosen = settings(filled(studio["DATABASE_URL"]))
    assert chosen["HOST"] == "database"
    assert (chosen["USER"], chosen["NAME"]) == (database["POSTGRES_USER"], database["POSTGRES_DB"])
    assert chosen["PASSWORD"] == filled(database["POSTGRES_PASSWORD"])
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    example = (DEPLOY / "compose.env.example").read_text("utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(re.findall(r"^(\w+)=", example, re.MULTILINE)) == set(GIVEN)
    for line in example.splitlines():
        assert not re.match(r"\w*(PASSWORD|TOKEN)=.", line), "an example of a secret is a secret that many have"


def test_the_container_is_of_nobody_in_particular_and_holds_no_secret() -> None:
    lines = instructions()
    order = [word for word, _ in lines]
    users = [rest for word, rest in lines if word == "USER"]
    assert users == ["10001"]
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert not [rest for word, rest in lines if word in ("ARG", "ENV") and re.search("KEY|TOKEN|PASSWORD|SECRET", rest)]
    [probe] = [rest for word, rest in lines if word == "HEALTHCHECK"]
    code = yaml.safe_load(probe.split("CMD ", 1)[1])
    compile(code[2], "healthcheck", "exec")
    from heedful.studio.operations import LIVE

    assert f"http://127.0.0.1:8400{LIVE}" in code[2]
    kept = (DEPLOY / "Containerfile.dockerignore").read_text("utf-8").splitlines()
    assert kept[1] == "*", "all but what is named stays outside"
    assert all((ROOT / line[1:]).exists() for line in kept if line.startswith("!"))
    images = [rest for word, rest in lines if word == "FROM"]
    assert all("/" not in image.split()[0] for image in images)


UNITS = sorted(DEPLOY.glob("*.service"))


def lines_of(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_runs_what_the_command_line_takes(unit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = lines_of(unit, "ExecStart")
    words = shlex.split(filled(line))
    if words[0] == "/bin/sh":
        words = shlex.split(inner(words[2]))
    program = Path(words[0])
    config = settings_of(["heedful", *words[1:]], monkeypatch)
    [folder] = lines_of(unit, "WorkingDirectory")
    assert (program.name, str(config.folder)) == ("heedful", folder)
    assert lines_of(unit, "ReadWritePaths") == [folder]
    assert lines_of(unit, "User") == ["heedful"]
    assert lines_of(unit, "UMask") == ["0077"]
    assert not re.search("PASSWORD|TOKEN=|://", "\n".join(lines_of(unit, "Environment")))


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    copies = []
    for unit in [*UNITS, *DEPLOY.glob("*.timer")]:
        copies.append(tmp_path / unit.name)
        text = unit.read_text("utf-8").replace("/srv/heedful/venv/bin/heedful", "/bin/true")  # it has to be there
        copies[-1].write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *copies], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    broken = copies[0].with_name("broken.service")
    broken.write_text(copies[0].read_text().replace("ProtectSystem=strict", "ProtectSystm=strict"))
    assert "ProtectSystm" in subprocess.run(
        ["systemd-analyze", "verify", "--man=no", broken], capture_output=True, text=True
    ).stderr  # fmt: skip
