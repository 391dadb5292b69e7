"""Plugins, against real packages: each test lays out modules and dist-info folders and lets importlib find them."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from sigan import plugins
from sigan.errors import ConfigError

PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """package(name, source, entry points by group) installs a package, for this test only."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(plugins.SWITCH, raising=False)

    def install(name: str, source: str, points: dict[str, dict[str, str]]) -> None:
        module = name.replace("-", "_").lower()
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        lines = [f"[{group}]\n" + "\n".join(f"{key} = {module}:{value}" for key, value in names.items())
                 for group, names in points.items()]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    return install


def test_loads_by_name(package):
    package("hp-one", "def ssim2(a, b): return a - b", {"sigan.metrics": {"hp-difference": "ssim2"}})
    assert plugins.load("sigan.metrics", "hp-difference")(5, 3) == 2


def test_listing_runs_no_plugin_code(package):
    package("hp-loud", "raise RuntimeError('imported')", {"sigan.metrics": {"hp-loud": "x"}})
    plugin = plugins.entries("sigan.metrics")["hp-loud"]
    assert (plugin.package, plugin.version, plugin.value) == ("hp-loud", "1.2", "hp_loud:x")
    assert not plugin.builtin


@pytest.mark.parametrize("source", ["raise RuntimeError('boom')", "import sys; sys.exit(3)", "y = 1", "x ="])
def test_broken_plugin_is_reported_and_the_rest_load(package, source):
    package("hp-broken", source, {"sigan.metrics": {"hp-bad": "x"}})
    package("hp-sound", "x = 7", {"sigan.metrics": {"hp-good": "x"}})
    objects, problems = plugins.load_all("sigan.metrics")
    assert objects["hp-good"] == 7 and "hp-bad" not in objects
    ours = [problem for problem in problems if problem.package == "hp-broken"]
    assert [problem.name for problem in ours] == ["hp-bad"]
    assert "hp-broken 1.2 does not load" in ours[0].message and "--upgrade hp-broken" in ours[0].hint
    with pytest.raises(ConfigError, match="hp-bad"):
        plugins.load("sigan.metrics", "hp-bad")


def test_unknown_name_suggests_near_ones(package):
    package("hp-one", "x = 1", {"sigan.metrics": {"hp-identity": "x"}})
    with pytest.raises(ConfigError, match="no 'hp-identty' in sigan.metrics") as caught:
        plugins.load("sigan.metrics", "hp-identty")
    assert "hp-identity" in caught.value.hint


def test_unknown_group():
    with pytest.raises(ConfigError, match="no plugin group 'sigan.nothing'"):
        plugins.entries("sigan.nothing")


@pytest.mark.parametrize(("value", "expected"), [
    ("", set()), ("hp-one", {"hp-a"}), ("HP_One , hp.two", {"hp-a", "hp-b"}),
])
def test_switch_restricts(package, monkeypatch, value, expected):
    package("hp-one", "x = 1", {"sigan.engines": {"hp-a": "x"}})
    package("HP_two", "x = 1", {"sigan.engines": {"hp-b": "x"}})
    assert {"hp-a", "hp-b"} <= set(plugins.entries("sigan.engines"))
    monkeypatch.setenv(plugins.SWITCH, value)
    assert {name for name in plugins.entries("sigan.engines") if name.startswith("hp-")} == expected
    switched_off = {plugin.name for plugin in plugins.found() if plugin.name.startswith("hp-") and not plugin.enabled}
    assert switched_off == {"hp-a", "hp-b"} - expected


def test_switch_leaves_the_built_ins(package, monkeypatch):
    package("sigan", "x = 'ours'", {"sigan.engines": {"hp-local": "x"}})
    monkeypatch.setenv(plugins.SWITCH, "")
    assert plugins.entries("sigan.engines")["hp-local"].builtin


def test_switch_naming_nothing_is_a_problem(package, monkeypatch):
    monkeypatch.setenv(plugins.SWITCH, "hp-absent")
    assert [problem.package for problem in plugins.problems() if "hp-absent" in problem.message] == ["hp-absent"]


def test_name_taken_twice_goes_to_the_first_package(package):
    package("hp-alpha", "x = 'alpha'", {"sigan.engines": {"hp-same": "x"}})
    package("hp-beta", "x = 'beta'", {"sigan.engines": {"hp-same": "x"}})
    objects, problems = plugins.load_all("sigan.engines")
    assert objects["hp-same"] == "alpha"
    assert [(problem.package, problem.message) for problem in problems if problem.name == "hp-same"] == [
        ("hp-beta", "'hp-same' is taken by package hp-alpha")]


def shipped(name: str) -> dict[str, dict[str, str]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((PLUGINS / name / "pyproject.toml").read_text())["project"]["entry-points"]


def test_classic_styles_lists_the_packs_that_are_there(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGINS / "sigan-styles-classic"))
    points = shipped("sigan-styles-classic")["sigan.styles"]
    files = sorted((PLUGINS / "sigan-styles-classic/sigan_styles_classic").glob("*.safetensors"))
    for name, value in points.items():
        paths = metadata.EntryPoint(name, value, "sigan.styles").load()
        assert sorted(paths.values()) == files and set(paths) <= set(points)


def test_template_points_beside_its_module(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGINS / "sigan-style-template"))
    ((name, value),) = shipped("sigan-style-template")["sigan.styles"].items()
    path = metadata.EntryPoint(name, value, "sigan.styles").load()
    assert path == PLUGINS / "sigan-style-template/sigan_style_template/style.safetensors"
