"""The styles at hand: installed by the user, or brought by packages."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch

from sigan import styles
from sigan.errors import ConfigError, OfflineError, PackError, UnknownStyleError
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
    return tmp_path / "home"


@pytest.fixture
def content(pack, tmp_path):
    """The bytes of a valid pack."""
    pack.save(tmp_path / "content" / "a.safetensors")
    return (tmp_path / "content" / "a.safetensors").read_bytes()


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


@pytest.mark.parametrize("source", [
    "from pathlib import Path\nX = Path(__file__).with_name('given.safetensors')",
    "from pathlib import Path\nX = {'offer': Path(__file__).with_name('given.safetensors')}",
    "def X():\n    from pathlib import Path\n    return {'offer': str(Path(__file__).with_name('given.safetensors'))}",
], ids=["path", "dict", "callable"])
def test_a_package_may_say_in_three_ways_where_its_packs_are(package, home, content, source):
    folder = package("hp-styles", {"sigan.styles": {"offer": ":X"}},
                     {"__init__.py": source, "given.safetensors": content})
    assert list(styles.installed().values()) == [styles.StyleEntry("offer", folder / "given.safetensors", "hp-styles")]
    assert styles.find("offer") == styles.find("hp-styles:offer") and styles.problems() == []


def test_a_pack_beside_the_module_is_found_without_running_it(package, home, content):
    folder = package("hp-loud", {"sigan.styles": {"loud": ":PATH"}},
                     {"__init__.py": "raise RuntimeError('imported')", "loud.safetensors": content})
    assert styles.installed()["loud"].path == folder / "loud.safetensors"
    assert styles.load("loud").manifest == MANIFEST and styles.problems() == []


def test_broken_styles_of_packages_are_reported_and_skipped(package, home, content, monkeypatch):
    monkeypatch.setattr(styles, "LOAD_SECONDS", 0.5)
    package("hp-good", {"sigan.styles": {"good": ":PATH"}}, {"good.safetensors": content})
    package("hp-lost", {"sigan.styles": {"lost": ":PATH"}}, {"__init__.py": "PATH = 'nowhere.safetensors'"})
    package("hp-raises", {"sigan.styles": {"raises": ":f"}}, {"__init__.py": "def f(): return 1 / 0"})
    package("hp-hangs", {"sigan.styles": {"hangs": ":PATH"}}, {"__init__.py": "import time; time.sleep(60)"})
    package("hp-exits", {"sigan.styles": {"exits": ":f"}}, {"__init__.py": "def f(): raise SystemExit(3)"})
    package("hp-needy", {"sigan.styles": {"needy": ":PATH"}}, {"__init__.py": "import hp_absent"})
    package("hp-empty", {"sigan.styles": {"empty": ":PATHS"}}, {"__init__.py": "PATHS = {}"})
    assert list(styles.installed()) == ["good"]
    told = {problem.package: problem.message for problem in styles.problems()}
    assert sorted(told) == ["hp-exits", "hp-hangs", "hp-lost", "hp-needy", "hp-raises"]
    assert "'lost' is no .safetensors file at nowhere.safetensors" in told["hp-lost"]
    assert "division by zero" in told["hp-raises"] and "hp-hangs 1.2 hangs: no answer within 0.5 s" in told["hp-hangs"]
    assert "No module named 'hp_absent'" in told["hp-needy"]


def test_a_name_several_have_is_the_users_then_the_first_packages(package, home, content, tmp_path):
    for name in ("hp-alpha", "hp-beta"):
        package(name, {"sigan.styles": {"ink": ":PATH"}}, {"ink.safetensors": content})
    assert [entry.full_name for entry in styles.installed().values()] == ["hp-beta:ink", "hp-alpha:ink"]
    assert list(styles.installed()) == ["hp-beta:ink", "ink"] and styles.find("ink").origin == "hp-alpha"
    assert styles.ambiguities("ink:0.5+hp-beta:ink:0.5") == [
        "style 'ink' is hp-alpha:ink; also installed: hp-beta:ink"]
    with pytest.raises(ConfigError, match="comes with package hp-beta"):
        styles.remove("hp-beta:ink")

    (tmp_path / "mine.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="'ink' is installed already, from hp-alpha"):
        styles.install(tmp_path / "mine.safetensors")
    styles.install(tmp_path / "mine.safetensors", force=True)
    assert {name: entry.origin for name, entry in styles.installed().items()} == {
        "ink": "home", "hp-alpha:ink": "hp-alpha", "hp-beta:ink": "hp-beta"}
    assert styles.find("ink") == styles.find("home:ink")
    assert styles.ambiguities("ink") == ["style 'ink' is home:ink; also installed: hp-alpha:ink, hp-beta:ink"]
    assert styles.ambiguities("hp-alpha:ink") == styles.ambiguities(str(tmp_path / "mine.safetensors")) == []
    styles.remove("ink")
    assert styles.find("ink").origin == "hp-alpha"


# a folder

def test_a_folder_of_packs(home, pack, tmp_path):
    folder = tmp_path / "packs"
    for name in ("one", "two"):
        StylePack(replace(MANIFEST, name=name), pack.deltas).save(folder / f"{name}.safetensors")
    (folder / "notes.txt").write_text("no pack")
    assert [entry.name for entry in styles.install_folder(folder)] == ["one", "two"] == list(styles.installed())
    for name in ("one", "two"):
        styles.remove(name)
    assert not (home / "styles").exists()  # nothing of them is left


def test_a_folder_with_one_bad_pack_installs_nothing(home, pack, tmp_path):
    pack.save(tmp_path / "packs" / "a.safetensors")
    (tmp_path / "packs" / "b.safetensors").write_bytes(b"no")
    with pytest.raises(PackError, match="b.safetensors"):
        styles.install_folder(tmp_path / "packs")
    pack.save(tmp_path / "packs" / "b.safetensors")
    with pytest.raises(ConfigError, match="a.safetensors and .*b.safetensors are both called 'ink'"):
        styles.install_folder(tmp_path / "packs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no .safetensors file in"):
        styles.install_folder(tmp_path / "empty")
    assert styles.installed() == {}


def test_a_file_with_a_name_no_style_can_have_is_told(home, content):
    (home / "styles").mkdir(parents=True)
    (home / "styles" / "a+b.safetensors").write_bytes(content)
    assert styles.installed() == {}
    assert ["a+b.safetensors has a name" in problem.message for problem in styles.problems()] == [True]


# an address

@pytest.fixture
def server(content):
    """serve.url is an address; it gives serve.body, at first a valid pack, and counts in serve.asked."""
    serve = SimpleNamespace(body=content, asked=0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            serve.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(serve.body)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(serve.body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        serve.url = f"http://127.0.0.1:{running.server_port}/packs/a%20style.safetensors"
        yield serve
        running.shutdown()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_an_address_with_its_hash(server, home, content):
    seen = []
    entry = styles.install_url(server.url, sha(content).upper(), progress=seen.append)
    assert entry == styles.find("ink") and entry.path.read_bytes() == content
    assert seen[-1].state == "done" and seen[-1].bytes == len(content)
    assert styles.install_url(f"{server.url}#sha256={sha(content)}", name="pen").name == "pen"
    assert sorted(path.name for path in home.rglob("*")) == ["ink.safetensors", "pen.safetensors", "styles"]


def test_an_address_without_a_hash_is_not_asked(server, home):
    with pytest.raises(ConfigError, match="is to be installed without a hash") as caught:
        styles.install_url(server.url)
    assert "--sha256" in caught.value.hint
    with pytest.raises(ConfigError, match="'abc' is no sha256"):
        styles.install_url(server.url, "abc")
    with pytest.raises(ConfigError, match="ftp://x/a is no http or https address"):
        styles.install_url("ftp://x/a", "0" * 64)
    assert server.asked == 0


@pytest.mark.parametrize("body", [b"another file", b"<!doctype html><title>404</title>"])
def test_an_address_that_gives_something_else(server, home, content, body):
    server.body = body
    with pytest.raises(PackError, match="cannot be downloaded") as caught:
        styles.install_url(server.url, sha(content))
    assert "another file: its sha256 is" in caught.value.message or "web page" in caught.value.message
    assert styles.installed() == {}


def test_an_address_that_gives_no_pack_is_named(server, home):
    server.body = b"no pack at all"
    with pytest.raises(PackError) as caught:
        styles.install_url(server.url, sha(server.body))
    assert server.url in caught.value.message and styles.installed() == {}


def test_an_address_that_gives_too_much(server, home, content, monkeypatch):
    monkeypatch.setattr(styles, "MAX_FILE", 1 << 20)
    server.body = bytes(3 << 20)
    with pytest.raises(PackError, match="has more than 1 MiB"):
        styles.install_url(server.url, sha(server.body))
    assert styles.installed() == {}


def test_an_address_is_not_asked_when_offline(server, home, monkeypatch):
    monkeypatch.setenv("SIGAN_OFFLINE", "1")
    with pytest.raises(OfflineError, match="SIGAN_OFFLINE"):
        styles.install_url(server.url, "0" * 64)
    assert server.asked == 0


def test_a_file_cannot_be_removed_as_a_style(pack, tmp_path, home):
    pack.save(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="is a file, not an installed style"):
        styles.remove(str(tmp_path / "a.safetensors"))
    assert (tmp_path / "a.safetensors").exists()
