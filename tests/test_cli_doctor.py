"""`sigan doctor` on a machine that is well, and with one thing broken at a time."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest
import torch

import sigan
from sigan import detection, packs, plugins, runtime, styles
from sigan.cli.app import main
from sigan.errors import WeightsError

BASE = SimpleNamespace(name="mini", resolution=16, hash="ab" * 32, licence="CC0",
                       generator=torch.nn.ModuleDict({"synthesis": torch.nn.Linear(2, 2)}))


@pytest.fixture
def bases(monkeypatch):
    fake = SimpleNamespace(names=lambda: ["mini"], load=lambda name: BASE, mini=lambda: None)  # mini: the entry point
    monkeypatch.setitem(sys.modules, "sigan.bases", fake)
    monkeypatch.setattr(sigan, "bases", fake, raising=False)
    return fake


@pytest.fixture
def examine(capsys, monkeypatch, bases):
    """examine() -> exit code, and the checks by name; detectors stand still and no plugins count, for speed."""
    monkeypatch.setenv(plugins.SWITCH, "")
    monkeypatch.setattr(detection.DlibAligner, "find", lambda self, image: [])

    def examine(*arguments: str) -> tuple[int, dict]:
        code = main(["doctor", "--json", *arguments])
        report = json.loads(capsys.readouterr().out)
        assert report["healthy"] == (code == 0)
        return code, {check["name"]: check for check in report["checks"]}

    return examine


def install(base_hash: str) -> None:
    manifest = packs.PackManifest(name="ink", base="mini", base_hash=base_hash, base_resolution=16, recipe="jojogan",
                                  config={}, seed=0, steps=1, references=1, licence="CC0")
    pack = packs.StylePack(manifest, {"synthesis.bias": torch.ones(2).half()})
    pack.save(runtime.home() / "styles" / "ink.safetensors")


def test_a_whole_installation_passes_every_check(examine):
    install(BASE.hash)
    code, checks = examine("--device", "cpu")
    assert code == 0
    assert {"sigan", "torch", "device", "home", "base mini", "landmarks", "dlib",
            "style ink"} <= set(checks)
    assert {name for name, check in checks.items() if check["status"] != "ok"} <= {"memory"}
    assert checks["torch"]["value"].split("+")[0] == torch.__version__.split("+")[0]  # some builds add +cu… or +cpu
    assert BASE.hash[:12] in checks["base mini"]["value"]


def test_the_screen_names_each_fix(examine, capsys):
    main(["doctor"])
    out, err = capsys.readouterr()
    assert out == "" and "base mini" in err and "styles: sigan styles install FILE" in err


def test_no_styles_is_a_warning(examine):
    code, checks = examine()
    assert code == 0 and checks["styles"]["status"] == "warn"


def test_missing_weights_are_told_with_their_fix(examine, bases):
    def load(name):
        raise WeightsError("base 'mini' lacks generator.safetensors", "reinstall sigan")

    bases.load = load
    code, checks = examine()
    assert code == 5 and checks["base mini"]["fix"] == "reinstall sigan"
    bases.names = list
    assert examine()[1]["bases"]["value"] == "none"


def test_missing_detector_weights_are_told_with_their_fix(examine, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, checks = examine()
    assert code == 5
    assert checks["face detector"]["fix"] == "pip install face_recognition_models"


def test_missing_dlib_is_told_with_its_fix(examine, monkeypatch):
    def find(self, image):
        raise ImportError("No module named 'dlib'")

    monkeypatch.setattr(detection.DlibAligner, "find", find)
    code, checks = examine()
    assert code == 5 and checks["dlib"]["fix"] == "pip install dlib-bin"


def test_styles_damaged_or_of_another_base(examine):
    install("cd" * 32)
    code, checks = examine()
    assert code == 0 and checks["style ink"]["status"] == "warn" and "belongs to base" in checks["style ink"]["value"]
    styles.find("ink").path.write_bytes(b"no")
    code, checks = examine()
    assert code == 7 and "ink.safetensors is no valid" in checks["style ink"]["value"]


def test_home_that_cannot_be_written(examine, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIGAN_HOME", str(tmp_path / "file"))
    code, checks = examine()
    assert code == 2 and "SIGAN_HOME" in checks["home"]["fix"] and "can be used" in checks["home"]["fix"]


def test_unknown_device_and_what_nobody_expected(examine, bases):
    code, checks = examine("--device", "tpu")
    assert code == 2 and "'tpu'" in checks["device"]["value"]
    bases.names = lambda: 1 / 0
    code, checks = examine()
    assert code == 1 and checks["bases"]["value"] == "ZeroDivisionError: division by zero"


def test_plugin_problems_are_warnings(examine, monkeypatch):
    monkeypatch.setenv(plugins.SWITCH, "hp-absent")
    code, checks = examine()
    assert code == 0 and checks["plugin hp-absent"]["fix"].startswith("`pip install hp-absent`")


def test_the_detectors_really_run():
    from sigan.cli.doctor import _detectors

    assert {check.name: check.status for check in _detectors()} == {
        "landmarks": "ok", "face detector": "ok",
        "face descriptor": "ok", "dlib": "ok"}
