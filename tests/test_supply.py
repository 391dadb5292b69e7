"""What is handed on: wheel and source, installed and run without a network; licences, and the bill of materials."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest

import sigan
from supply import dependencies, licences, sbom

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "SIGAN_OFFLINE": "1", "SIGAN_PLUGINS": ""}
CONTENTS = ("sigan", "tests", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in")


def run(*command: object, cwd: Path, **environment: str) -> str:
    """What a command says on stdout; it must succeed, and knows nothing of this checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "SIGAN_"))}
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True,
                          env={**clean, **OFFLINE, **environment})
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, out: Path, what: str) -> Path:
    """A wheel or sdist of `source`, by the setuptools that is installed."""
    out.mkdir(exist_ok=True)
    code = f"import setuptools.build_meta as b, sys; print(b.build_{what}(sys.argv[1]))"
    return out / run(sys.executable, "-c", code, out, cwd=source).split()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what the distributions are made from, so that nothing is built in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in CONTENTS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return build(source, tmp_path_factory.mktemp("dist"), "wheel")


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory) -> Path:
    """The Python of a new environment that holds the wheel; the dependencies are those of this one, sigan's is not."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not read
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet", wheel, cwd=folder)
    return python


def test_the_wheel_holds_the_program_its_weights_and_its_licences(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sigan").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts}
    assert ours <= names
    info = f"sigan-{sigan.__version__}.dist-info"
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= names
    assert {name.split("/")[0] for name in names} == {"sigan", info}


def test_the_source_gives_the_same_wheel(source, wheel, tmp_path):
    archive = build(source, tmp_path / "sdist", "sdist")
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert not list(unpacked.rglob("test_*.py"))  # setuptools takes these without what they import
    again = build(unpacked, tmp_path / "wheel", "wheel")

    def contents(path: Path) -> dict[str, int]:
        with zipfile.ZipFile(path) as opened:
            return {entry.filename: entry.CRC for entry in opened.infolist() if not entry.filename.endswith("RECORD")}

    assert contents(again) == contents(wheel)


def test_the_installed_wheel_runs(fresh, tmp_path):
    where = run(fresh, "-c", "import sigan; print(sigan.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(fresh.parent.parent)
    assert run(fresh, "-m", "sigan", "--version", cwd=tmp_path) == f"sigan {sigan.__version__}\n"
    assert run(fresh.with_name("sigan"), "--version", cwd=tmp_path) == f"sigan {sigan.__version__}\n"


def test_the_installed_wheel_stylizes_with_the_base_inside_it(fresh, tmp_path):
    """No network, nothing at home yet: a pack by its path, faces that need no detector."""
    pack = next((ROOT / "plugins" / "sigan-styles-classic").rglob("watercolor.safetensors"), None)
    if not pack or not (ROOT / "sigan/assets/mini/generator.safetensors").exists():
        pytest.skip("needs the embedded base and the shipped packs")
    (tmp_path / "in").mkdir()
    shutil.copy(next((ROOT / "examples/portraits").glob("*.png")), tmp_path / "in" / "a.png")
    said = run(fresh, "-m", "sigan", "stylize", "--style", pack, "--aligned", "--json", "in", "out", cwd=tmp_path,
               SIGAN_HOME=str(tmp_path / "home"), OMP_NUM_THREADS="1")
    assert json.loads(said.splitlines()[-1])["summary"]["ok"] == 1
    from PIL import Image

    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert picture.size[0] == picture.size[1] and np.ptp(np.asarray(picture)) > 20


# ---- licences and the bill

def test_every_dependency_and_its_licence_is_listed():
    """What pyproject.toml asks for, and what that brings in this environment."""
    rows = dict(re.findall(r"^\| \[?`([^`]+)`(?:\]\([^)]*\))? \| (.+) \|$", licences.TARGET.read_text("utf-8"),
                           re.MULTILINE))
    asked = [name for extra in ("", "docs", "test") for name in dependencies.names(dependencies.declared(extra))]
    assert set(asked) - {"tomli"} <= set(rows)
    known = dependencies.closure(dependencies.declared())
    assert set(known) <= set(rows), "run `make licences`"
    words = {name: set(re.findall(r"[A-Za-z]+", rows[name])) for name in known if name in asked}
    for name, found in words.items():  # a version may add one to a list of licences
        assert found & set(re.findall(r"[A-Za-z]+", known[name].licence)), f"{name}: run `make licences`"


def test_no_licence_is_unsaid_or_forbids_what_we_do():
    known = dependencies.closure(dependencies.declared())
    assert {"torch", "jinja2", "markupsafe"} <= set(known)
    unclear = {name: package.licence for name, package in known.items()
               if not re.search(r"MIT|BSD|Apache|BSL|PSF|ISC|MPL", package.licence)}
    assert unclear == {}


@pytest.mark.parametrize(("fields", "licence"), [
    ({"License-Expression": "MIT OR Apache-2.0", "License": "x"}, "MIT OR Apache-2.0"),
    ({"License": "BSD"}, "BSD-3-Clause"),
    ({"License": "Copyright 2020\nPermission is", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
    ({"License": "UNKNOWN TEXT\nof many lines"}, "stated in its own text"),
])
def test_a_licence_is_read_wherever_metadata_have_it(fields, licence):
    from email.message import Message

    facts = Message()
    for name, value in fields.items():
        facts[name] = value
    assert dependencies.licence_of(facts) == licence


def test_the_bill_names_every_package_and_weight_once_and_its_edges_lead_somewhere():
    bill = sbom.document()
    refs = [part["bom-ref"] for part in bill["components"]]
    assert len(refs) == len(set(refs)) and (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    edges = {edge["ref"]: edge["dependsOn"] for edge in bill["dependencies"]}
    root = bill["metadata"]["component"]["bom-ref"]
    assert set(edges) - {root} == {ref for ref in refs if ref.startswith("pkg:")}
    assert {target for targets in edges.values() for target in targets} <= set(refs)
    assert any(ref.startswith("pkg:pypi/torch@") for ref in edges[root])
    weights = {part["name"]: part["hashes"][0]["content"] for part in bill["components"] if "hashes" in part}
    assets = ROOT / "sigan" / "assets"
    files = {path.relative_to(assets).as_posix() for path in assets.rglob("*.safetensors")}
    assert set(weights) == files and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in weights.values())


def test_the_same_environment_gives_the_same_bytes(tmp_path, capsys):
    sbom.main(str(tmp_path / "new" / "bom.json"))
    sbom.main()
    assert (tmp_path / "new" / "bom.json").read_text("utf-8") == capsys.readouterr().out
