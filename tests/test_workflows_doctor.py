"""`mgen doctor`: what is found, what is missing, and what then."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

import mgen
from mgen.cli import doctor as command
from mgen.cli.main import app, run
from mgen.workflows import doctor


def test_this_machine_can_run_mgen(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "compile_problem", lambda _: "")
    assert run(command.main, ["--json"]) == 0
    found = {one["part"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["Python"]["found"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert not any(one["remedy"] for one in found.values() if one["needed"])
    assert list(tmp_path.iterdir()) == []  # nothing is left
    assert run(command.main, []) == 0
    assert "+ compiler   torch.compile works" in capsys.readouterr().out


def test_what_is_missing_has_a_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "compile_problem", lambda _: "torch.compile fails: no g++")
    monkeypatch.setattr(doctor, "synthesiser", lambda: "pretty_midi")
    monkeypatch.setattr(doctor, "is_installed", lambda _: False)
    monkeypatch.setattr(doctor, "players", list)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
    assert run(command.main, []) == 1
    out = capsys.readouterr().out
    for line in (
        "- compiler   torch.compile fails: no g++",
        "  writing: free 2 GB",
        "mgen-music[audio]",
        "mgen-music[dev]",
        "aplay",
    ):
        assert line in out


@pytest.mark.parametrize("missing", doctor.PACKAGES)
def test_a_missing_package_is_named(missing, monkeypatch, tmp_path):
    def known(name):
        if name == missing:
            raise doctor.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", known)
    finding = doctor._packages(tmp_path)
    assert finding.remedy == f"{missing}: install mgen again" and finding.needed


def test_a_folder_that_cannot_be_written(tmp_path):
    finding = doctor._writing(tmp_path / "nowhere")
    assert finding.remedy and finding.needed and "nowhere" in finding.found


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        app(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"mgen {mgen.__version__}\n"
