"""The styles at hand: installed by the user, or brought by packages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sigan import plugins, styles
from sigan.errors import ConfigError, PackError, UnknownStyleError
from sigan.packs import PackManifest, StylePack

MANIFEST = PackManifest(name="ink", base="mini", base_hash="ab" * 32, base_resolution=16, recipe="styleidentity",
                        config={"alpha": 0.5, "swap_layers": [7, 9]}, seed=7, steps=3, references=2,
                        licence="CC BY-NC-SA 4.0", author="A", created="2026-01-02", perceptual="discriminator")


@pytest.fixture
def pack():
    draw = torch.Generator().manual_seed(1)
    return StylePack(MANIFEST, {"synthesis.0.weight": torch.randn((3, 2), generator=draw).half(),
                                "synthesis.strength": torch.tensor(0.125).half()})


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(plugins.SWITCH, "")
    return tmp_path / "home"


@pytest.fixture
def offers(monkeypatch):
    """offers(name, object): package hp-styles offers a style, without being installed."""
    objects, entries = {}, {}
    monkeypatch.setattr(plugins, "load_all", lambda group: (dict(objects), []))
    monkeypatch.setattr(plugins, "entries", lambda group: dict(entries))

    def offer(name: str, thing: object) -> None:
        objects[name], entries[name] = thing, SimpleNamespace(package="hp-styles")

    return offer


def test_install_find_remove(pack, tmp_path, home):
    pack.save(tmp_path / "file.safetensors")
    entry = styles.install(tmp_path / "file.safetensors")
    assert entry == styles.find("ink") == styles.installed()["ink"]
    assert entry.path == home / "styles" / "ink.safetensors" and entry.origin == "home"
    assert entry.path.read_bytes() == (tmp_path / "file.safetensors").read_bytes()
    assert styles.verify("ink") == MANIFEST
    styles.remove("ink")
    assert styles.installed() == {} and not entry.path.exists()


def test_install_does_not_replace_unless_forced(pack, tmp_path, home):
    pack.save(tmp_path / "a.safetensors")
    styles.install(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="'ink' is installed already, from home"):
        styles.install(tmp_path / "a.safetensors")
    assert styles.install(tmp_path / "a.safetensors", force=True).name == "ink"
    assert styles.install(tmp_path / "a.safetensors", name="ink-2").name == "ink-2"
    assert list(styles.installed()) == ["ink", "ink-2"]


@pytest.mark.parametrize("name", ["../ink", "a+b", "a:b", ".ink", "a b"])
def test_install_refuses_names_that_mean_something_else(pack, tmp_path, home, name):
    pack.save(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="cannot name a style"):
        styles.install(tmp_path / "a.safetensors", name=name)
    assert styles.installed() == {}


def test_install_refuses_what_is_no_pack(tmp_path, home):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(PackError, match="a.safetensors is no valid"):
        styles.install(tmp_path / "a.safetensors", name="a")
    with pytest.raises(ConfigError, match="cannot install from a URL yet: https://x/a"):
        styles.install("https://x/a.safetensors")
    assert styles.installed() == {}


def test_find_suggests_near_names(pack, tmp_path, home):
    with pytest.raises(UnknownStyleError) as caught:
        styles.find("ink")
    assert "none is installed" in caught.value.hint
    pack.save(home / "styles" / "watercolor.safetensors")
    with pytest.raises(UnknownStyleError, match="no style called 'Watercolour'") as caught:
        styles.find("Watercolour")
    assert caught.value.hint == "did you mean watercolor?"
    with pytest.raises(UnknownStyleError, match="no pack file at 'x/ink.safetensors'"):
        styles.find("x/ink.safetensors")


def test_load_takes_names_paths_and_blends(pack, tmp_path, home):
    pack.save(tmp_path / "a.safetensors")
    styles.install(tmp_path / "a.safetensors")
    assert styles.find(tmp_path / "a.safetensors").origin == "file"
    assert styles.load("ink").hash == styles.load(str(tmp_path / "a.safetensors")).hash == pack.hash
    mixed = styles.load(f"ink:0.25+{tmp_path}/a.safetensors:0.75")
    torch.testing.assert_close(mixed.deltas, pack.deltas)
    half = styles.load("ink:0.5")
    torch.testing.assert_close(half.deltas["synthesis.strength"] * 2, pack.deltas["synthesis.strength"])


@pytest.mark.parametrize("shape", [lambda path: path, lambda path: {"fromdict": path}, lambda path: lambda: path])
def test_styles_of_packages(pack, tmp_path, home, offers, shape):
    pack.save(tmp_path / "given.safetensors")
    offers("given", shape(tmp_path / "given.safetensors"))
    (entry,) = styles.installed().values()
    assert (entry.path, entry.origin) == (tmp_path / "given.safetensors", "hp-styles")
    with pytest.raises(ConfigError, match="comes with package hp-styles"):
        styles.remove(entry.name)
    with pytest.raises(ConfigError, match="installed already, from hp-styles"):
        styles.install(tmp_path / "given.safetensors", name=entry.name)
    styles.install(tmp_path / "given.safetensors", name=entry.name, force=True)
    assert styles.find(entry.name).origin == "home"  # the user's own comes first


def test_broken_styles_of_packages_are_reported_and_skipped(pack, tmp_path, home, offers):
    pack.save(tmp_path / "good.safetensors")
    offers("good", tmp_path / "good.safetensors")
    offers("absent", tmp_path / "absent.safetensors")
    offers("raises", lambda: 1 / 0)
    offers("empty", {})
    assert list(styles.installed()) == ["good"]
    assert [(problem.name, problem.package) for problem in styles.problems()] == [
        ("absent", "hp-styles"), ("raises", "hp-styles")]


def test_a_file_cannot_be_removed_as_a_style(pack, tmp_path, home):
    pack.save(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="is a file, not an installed style"):
        styles.remove(str(tmp_path / "a.safetensors"))
    assert (tmp_path / "a.safetensors").exists()
