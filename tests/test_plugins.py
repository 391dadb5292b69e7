"""Plugins, against real packages: `package` lays out modules and dist-info folders and lets importlib find them."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from sigan import plugins
from sigan.errors import ConfigError

PLUGINS = Path(__file__).parents[1] / "plugins"


def code(source: str) -> dict[str, str]:
    return {"__init__.py": source}


def test_a_plugin_loads_by_its_name(package):
    package("hp-one", {"sigan.metrics": {"hp-difference": ":ssim2"}}, code("def ssim2(a, b): return a - b"))
    assert plugins.load("sigan.metrics", "hp-difference")(5, 3) == 2


def test_listing_runs_no_plugin_code(package):
    package("hp-loud", {"sigan.metrics": {"hp-loud": ":x"}}, code("raise RuntimeError('imported')"))
    plugin = plugins.entries("sigan.metrics")["hp-loud"]
    assert (plugin.package, plugin.version, plugin.value) == ("hp-loud", "1.2", "hp_loud:x")
    assert plugin in plugins.found("sigan.metrics") and plugin in plugins.found()
    assert plugin not in plugins.found("sigan.engines") and not plugin.builtin


def test_identity_is_what_importlib_reads():
    """The quick look at the metadata's head against the full parse, for every plugin of this environment."""
    plugins_here = plugins.found()
    assert plugins_here
    for plugin in plugins_here:
        assert plugin.package == plugin.point.dist.name.lower().replace("_", "-")
        assert plugin.version == plugin.point.dist.version


@pytest.mark.parametrize("source", ["raise RuntimeError('boom')", "import sys; sys.exit(3)", "y = 1", "x ="])
def test_a_broken_plugin_says_which_package(package, source):
    package("hp-broken", {"sigan.metrics": {"hp-bad": ":x"}}, code(source))
    with pytest.raises(ConfigError, match="sigan.metrics 'hp-bad' of package hp-broken 1.2 does not load") as caught:
        plugins.load("sigan.metrics", "hp-bad")
    assert caught.value.hint.startswith("`pip install --upgrade hp-broken`")


def test_a_lacking_dependency_is_named(package):
    package("hp-needy", {"sigan.metrics": {"hp-needy": ":x"}}, code("import hp_absent.part"))
    with pytest.raises(ConfigError, match="No module named 'hp_absent'") as caught:
        plugins.load("sigan.metrics", "hp-needy")
    assert caught.value.hint.startswith("`pip install hp_absent` if it needs that, `pip install --upgrade hp-needy`")


def test_what_is_to_be_called_and_cannot_be_names_its_package(package):
    package("hp-flat", {"sigan.inverters": {"hp-flat": ":x", "hp-round": ":f"}}, code("x = 1\nf = len"))
    assert plugins.load_callable("sigan.inverters", "hp-round")([1, 2]) == 2
    with pytest.raises(ConfigError, match="of package hp-flat .* is no class or function, but of type int") as caught:
        plugins.load_callable("sigan.inverters", "hp-flat")
    assert "`pip install --upgrade hp-flat`" in caught.value.hint


def test_unknown_name_suggests_near_ones(package):
    package("hp-one", {"sigan.metrics": {"hp-identity": ":x"}}, code("x = 1"))
    with pytest.raises(ConfigError, match="no 'hp-identty' in sigan.metrics") as caught:
        plugins.load("sigan.metrics", "hp-identty")
    assert "hp-identity" in caught.value.hint


def test_an_unknown_group_is_refused():
    with pytest.raises(ConfigError, match="no plugin group 'sigan.nothing'"):
        plugins.entries("sigan.nothing")


@pytest.mark.parametrize(("value", "expected"), [
    ("", set()), ("hp-one", {"hp-a"}), ("HP_One , hp.two", {"hp-a", "hp-b"}),
])
def test_switch_restricts(package, monkeypatch, value, expected):
    package("hp-one", {"sigan.engines": {"hp-a": ":x"}})
    package("HP_two", {"sigan.engines": {"hp-b": ":x"}})
    assert {"hp-a", "hp-b"} <= set(plugins.entries("sigan.engines"))
    monkeypatch.setenv(plugins.SWITCH, value)
    assert {name for name in plugins.entries("sigan.engines") if name.startswith("hp-")} == expected
    switched_off = {plugin.name for plugin in plugins.found() if plugin.name.startswith("hp-") and not plugin.enabled}
    assert switched_off == {"hp-a", "hp-b"} - expected


def test_switch_leaves_the_built_ins(package, monkeypatch):
    package("sigan", {"sigan.engines": {"hp-local": ":x"}})
    monkeypatch.setenv(plugins.SWITCH, "")
    assert plugins.entries("sigan.engines")["hp-local"].builtin


def test_a_name_taken_twice_goes_to_the_first_package_and_the_other_has_its_full_name(package):
    package("hp-alpha", {"sigan.engines": {"hp-same": ":x"}}, code("x = 'alpha'"))
    package("hp-beta", {"sigan.engines": {"hp-same": ":x"}}, code("x = 'beta'"))
    assert plugins.load("sigan.engines", "hp-same") == plugins.load("sigan.engines", "hp-alpha:hp-same") == "alpha"
    assert plugins.load("sigan.engines", "hp-beta:hp-same") == "beta"
    (told,) = [problem for problem in plugins.shadowed(plugins.found()) if problem.name == "hp-same"]
    assert (told.package, told.message) == ("hp-beta", "'hp-same' is taken by package hp-alpha")
    assert told.hint.startswith("write hp-beta:hp-same")


def test_an_older_copy_of_a_package_later_on_the_path_is_not_seen(package, tmp_path, monkeypatch):
    package("hp-one", {"sigan.engines": {"hp-new": ":x"}})
    info = tmp_path / "hp_one-0.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hp_one\nVersion: 0.9\n")
    (info / "entry_points.txt").write_text("[sigan.engines]\nhp-old = hp_one:x\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert [plugin.name for plugin in plugins.found() if plugin.package == "hp-one"] == ["hp-new"]


@pytest.mark.parametrize("text", ["[sigan.engines]\nno equals sign\n", "[sigan.engines\nhp = x:y\n"])
def test_a_malformed_list_is_a_problem_of_its_package_only(package, text):
    package("hp-one", {"sigan.engines": {"hp-good": ":x"}})
    folder = package("hp-torn", {"sigan.engines": {"hp-lost": ":x"}})
    folder.with_name("hp_torn-1.2.dist-info").joinpath("entry_points.txt").write_text(text)
    found, problems = plugins.scan()
    assert "hp-good" in {plugin.name for plugin in found} and "hp-lost" not in {plugin.name for plugin in found}
    assert {problem.package for problem in problems} <= {"hp-torn"}


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
