"""A style as a package: its files, and the round trip through pip into an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sigan import publishing
from sigan.errors import ConfigError, PackError
from sigan.packs import PackManifest, StylePack

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = PackManifest(name="template", base="mini", base_hash="ab" * 32, base_resolution=16, recipe="sigan",
                        config={}, seed=0, steps=1, references=2, licence="CC-BY-NC-SA-4.0", author="A",
                        base_licence="CC-BY-NC-SA-4.0", references_licence="CC0-1.0")


@pytest.fixture
def pack(tmp_path):
    path = tmp_path / "given.safetensors"
    StylePack(MANIFEST, {"synthesis.b4.bias": torch.ones(3).half()}).save(path)
    return path


def test_the_template_is_what_export_writes(pack, tmp_path):
    publishing.write_package(pack, tmp_path / "package")
    template = ROOT / "plugins" / "sigan-style-template"
    written = {path.relative_to(tmp_path / "package").as_posix(): path.read_bytes()
               for path in (tmp_path / "package").rglob("*") if path.is_file()}
    assert written.pop("sigan_style_template/template.safetensors") == pack.read_bytes()
    assert b"README" not in written.pop("README.md")  # the template's own tells how to fill it
    assert sorted(written) == ["LICENSE", "pyproject.toml", "sigan_style_template/__init__.py"]
    for path, content in written.items():
        assert (template / path).read_bytes() == content, path


@pytest.mark.parametrize(("name", "project"), [
    ("Ink.2_b", "sigan-style-ink-2-b"), ("a--b", "sigan-style-a-b"), ("x", "sigan-style-x"), ("9", "sigan-style-9"),
])
def test_any_style_name_gives_names_that_pip_and_python_take(pack, tmp_path, name, project):
    publishing.write_package(pack, tmp_path / "package", name)
    facts = tomllib.loads((tmp_path / "package" / "pyproject.toml").read_text())
    (module,) = facts["tool"]["setuptools"]["packages"]
    assert facts["project"]["name"] == project and module.isidentifier()
    assert facts["project"]["entry-points"]["sigan.styles"] == {name: f"{module}:PATH"}
    assert (tmp_path / "package" / module / f"{name}.safetensors").is_file()


def test_what_a_stranger_wrote_stays_text():
    hostile = replace(MANIFEST, licence='MIT"\nevil = "x', author="<script>|[a](http://x)`", name="template")
    texts = publishing.package_texts(hostile, "template")
    assert "evil" not in texts["pyproject.toml"] and "license =" not in texts["pyproject.toml"]
    assert "&lt;script&gt;\\|\\[a\\](http://x)\\`" in texts["README.md"]


def test_a_folder_in_use_a_name_no_style_has_and_a_file_that_is_no_pack(pack, tmp_path):
    with pytest.raises(ConfigError, match="is in use"):
        publishing.write_package(pack, tmp_path)
    with pytest.raises(ConfigError, match="cannot name a style"):
        publishing.write_package(pack, tmp_path / "new", "a/b")
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(PackError, match="no.safetensors"):
        publishing.write_package(tmp_path / "no.safetensors", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_wheel_goes_round(pack, tmp_path):
    """export, build, install into a fresh environment, list, show, uninstall: and nothing is left.

    The environment sees the packages of this one, so that torch need not be installed again.
    """
    pytest.importorskip("setuptools", minversion="77", reason="the wheel is built without a network: needs setuptools")

    def call(*arguments: object, python: Path | str = sys.executable) -> str:
        done = subprocess.run([str(python), *map(str, arguments)], capture_output=True, text=True,
                              cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    env = {name: value for name, value in os.environ.items() if name not in ("SIGAN_PLUGINS", "PYTHONPATH")}
    env |= {"SIGAN_HOME": str(tmp_path / "home"), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    call("-m", "sigan", "styles", "export", pack, "--as-package", tmp_path / "package", "--name", "round-trip")
    call("-m", "pip", "wheel", "--no-index", "--no-build-isolation", "--no-deps", "-w", "wheels", "./package")
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert wheel.name == "sigan_style_round_trip-0.1.0-py3-none-any.whl"

    venv.create(tmp_path / "fresh", with_pip=False, symlinks=True)
    python = tmp_path / "fresh" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(call("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", python=python).strip())
    here = sysconfig.get_path("purelib")
    (site / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    (site / "root.pth").write_text(f"{ROOT}\n")
    before = sorted(path for path in site.rglob("*") if "__pycache__" not in path.parts)

    call("-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    (style,) = [style for style in json.loads(call("-m", "sigan", "styles", "list", "--json", python=python))["styles"]
                if style["name"] == "round-trip"]
    assert style["origin"] == "sigan-style-round-trip" and Path(style["path"]).is_relative_to(site)
    assert Path(style["path"]).read_bytes() == pack.read_bytes()
    told = json.loads(call("-m", "sigan", "plugins", "--json", python=python))["plugins"]
    assert ["ok"] == [plugin["status"] for plugin in told if plugin["name"] == "round-trip"]

    call("-m", "pip", "--python", python, "uninstall", "-y", "sigan-style-round-trip")
    assert "round-trip" not in call("-m", "sigan", "styles", "list", "--json", python=python)
    assert sorted(path for path in site.rglob("*") if "__pycache__" not in path.parts) == before
