"""The engine `ray` on a real cluster of two nodes on loopback: the local engine's files, with a node lost meanwhile."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("sigan_ray", reason="plugins/sigan-ray is not installed")
pytest.importorskip("ray.data", reason="Ray is not installed: `pip install ./plugins/sigan-ray`")
if sys.platform != "linux":
    pytest.skip("two nodes on one machine need 127.0.0.2 and /proc, as Linux has them", allow_module_level=True)

import ray  # noqa: E402
import sigan_ray  # noqa: E402
from raycluster import Cluster, Deadly, NoStart, Store, free_port  # noqa: E402
from sigan_ray import places, workers  # noqa: E402
from sigan_ray.rows import Entry  # noqa: E402

from sigan import bases, packs, sources, stylization  # noqa: E402
from sigan.cli.app import main  # noqa: E402
from sigan.errors import ConfigError, InputError, OutputError  # noqa: E402

BLOCK = 2


@pytest.fixture(scope="module")
def store_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def store(store_port):
    pytest.importorskip("s3fs", reason="s3fs is not installed: `pip install './plugins/sigan-ray[test]'`")
    pytest.importorskip("moto.server", reason="moto is not installed: `pip install './plugins/sigan-ray[test]'`")
    started = Store(store_port)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in started.environment.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("photos")
        yield files
    started.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, store_port):
    """A head and a second node. Their workers are led to where `store` will be."""
    leads = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{store_port}", "AWS_ACCESS_KEY_ID": "test",
             "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    folder = Path("/tmp") / f"sigan-ray-{os.getpid()}"  # sockets lie there, and their paths must be short
    leads |= {"SIGAN_HOME": str(tmp_path_factory.mktemp("node-home")), "SIGAN_PLUGINS": ""}
    started = None
    try:
        started = Cluster(folder, leads)
        started.add()
        yield started
    except NoStart as error:
        pytest.skip(str(error))
    finally:
        if started:
            started.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """A style for the embedded base: some of its colours moved at random."""
    base = bases.load("mini")
    state, draw = base.generator.state_dict(), torch.Generator().manual_seed(5)
    tuned = {key: value + 0.1 * torch.randn(value.shape, generator=draw) if "torgb.weight" in key else value
             for key, value in state.items()}
    manifest = packs.PackManifest(name="warm", base="mini", base_hash=base.hash, base_resolution=base.resolution,
                                  recipe="styleidentity", config={}, seed=5, steps=1, references=1, licence="CC0-1.0")
    path = tmp_path_factory.mktemp("pack") / "warm.safetensors"
    packs.StylePack.from_weights(manifest, state, tuned).save(path)
    return path


@pytest.fixture(scope="module")
def stylizer(pack):
    return stylization.Stylizer(str(pack), stylization.StylizeConfig(aligned=True, device="cpu", batch_size=3))


def picture(seed: int) -> bytes:
    """A PNG of smooth colours, which passes for a framed face."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def photographs(folder: Path, count: int) -> Path:
    """`count` pictures, one of them damaged and one with bytes in its name that are no text."""
    (folder / "sub").mkdir(parents=True)
    for k in range(count):
        Path(folder, "sub" if k % 3 else "", f"{k:02d}.png").write_bytes(picture(k))
    (folder / "05-damaged.png").write_bytes(picture(0)[:200])
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(picture(77))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(".sigan-ledger")}


def lines(text: str) -> dict[str, tuple]:
    """What a ledger tells of each input, in whatever order it was told."""
    entries = [json.loads(line) for line in text.splitlines()]
    return {entry["source"]: (entry["key"], entry["outputs"], entry.get("error")) for entry in entries}


def told(records: list, out: object) -> list[tuple]:
    """The records without what differs from run to run."""
    return [(r.source, [str(path).replace(str(out), "OUT") for path in r.outputs], r.status, r.faces, r.error, r.notes)
            for r in records]


def test_a_node_is_lost_in_the_middle_and_nothing_else(cluster, stylizer, tmp_path):
    items = sources.find_inputs(photographs(tmp_path / "in", 30))
    local = list(stylization.stylize_folder(stylizer, items, tmp_path / "local"))
    node = cluster.nodes[0]
    records = []
    for record in sigan_ray.stylize(stylizer, items, tmp_path / "ray", address=cluster.address, block=BLOCK):
        if not records:
            cluster.wait(node.workers, "the second node to take part")
            node.kill()
        records.append(record)
    assert told(records, tmp_path / "ray") == told(local, tmp_path / "local")
    assert [r.status for r in records].count("failed") == 1 and len(records) == 32
    assert files(tmp_path / "ray") == files(tmp_path / "local") and len(files(tmp_path / "ray")) == 31
    assert lines((tmp_path / "ray" / ".sigan-ledger.jsonl").read_text()) == \
        lines((tmp_path / "local" / ".sigan-ledger.jsonl").read_text())
    cluster.wait(lambda: cluster.alive() == 1, "the loss of the node to be noticed")

    (tmp_path / "in" / "00.png").write_bytes(picture(99))  # and the run goes on from either ledger, on what is left
    again = list(sigan_ray.stylize(stylizer, items, tmp_path / "local", block=40))
    assert [r.status for r in again if r.source.endswith("00.png")] == ["ok"]
    assert {r.status for r in again if not r.source.endswith("00.png")} == {"skipped", "failed"}
    assert {r.status for r in stylization.stylize_folder(stylizer, items, tmp_path / "local")} == {"skipped", "failed"}


def test_photographs_in_an_object_store_become_what_they_become_here(cluster, store, stylizer, tmp_path):
    here = photographs(tmp_path / "in", 4)
    (here / os.fsdecode(b"caf\xe9.png")).unlink()  # a name that is no text is none in a store either
    store.put(str(here) + "/", "photos/in/", recursive=True)
    items = places.inputs("s3://photos/in", "s3:/photos/out")  # as a Path of it has come out
    assert [(item.path, item.relative.as_posix()) for item in items][:2] == [
        ("s3://photos/in/00.png", "00.png"), ("s3://photos/in/03.png", "03.png")]
    local = list(stylization.stylize_folder(stylizer, sources.find_inputs(here), tmp_path / "local"))
    records = list(sigan_ray.stylize(stylizer, items, "s3:/photos/out"))
    assert [(r.status, r.faces) for r in records] == [(r.status, r.faces) for r in local]
    assert [r.error.message.split(": ")[1:] for r in records if r.error] == \
        [r.error.message.split(": ")[1:] for r in local if r.error]
    assert all(r.source.startswith("s3://photos/in/") for r in records)
    pictures = files(tmp_path / "local")
    assert {path.removeprefix("s3://photos/out/") for r in records for path in r.outputs} == set(pictures)
    assert {name: store.cat_file(f"photos/out/{name}") for name in pictures} == pictures
    store.invalidate_cache()
    assert not [name for name in store.find("photos/out") if name.endswith(".part")]
    assert lines(store.cat_file("photos/out/.sigan-ledger.jsonl").decode()) == \
        lines((tmp_path / "local" / ".sigan-ledger.jsonl").read_text())

    store.pipe_file("photos/in/00.png", picture(99))
    store.rm_file("photos/out/sub/01.png")
    again = list(sigan_ray.stylize(stylizer, items, "s3://photos/out"))
    assert [Path(r.source).name for r in again if r.status == "ok"] == ["00.png", "01.png"]
    assert store.cat_file("photos/out/sub/01.png") == pictures["sub/01.png"]


def test_the_command_writes_what_it_writes_without_the_engine(cluster, pack, tmp_path, capsys, monkeypatch):
    """With faces to be found, and options for the engine."""
    monkeypatch.setenv("SIGAN_PLUGINS", "sigan-ray")
    (tmp_path / "in").mkdir()
    for name in ("face-0000.png", "face-0001.png"):
        shutil.copy(Path(__file__).parents[1] / "examples" / "portraits" / name, tmp_path / "in")
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "in" / "nobody.png")
    common = ["stylize", "--style", str(pack), "--json", str(tmp_path / "in")]
    assert main([*common, str(tmp_path / "local")]) == 3
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    engine = ["--engine", "ray", "--address", cluster.address, "--engine-option", "block=2"]
    assert main([*common, str(tmp_path / "ray"), *engine]) == 3
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for record in [*expected, *shown]:
        record.pop("seconds", None), record.get("summary", {}).pop("seconds", None)
        record["output"] = record.get("output") and record["output"].replace("/ray/", "/local/")
    assert shown == expected and files(tmp_path / "ray") == files(tmp_path / "local")
    assert main([*common, str(tmp_path / "x"), "--engine", "ray", "--engine-option", "speed=9"]) == 2
    assert "has no option 'speed'" in capsys.readouterr().err


def test_a_folder_that_a_node_does_not_see_is_refused(cluster, stylizer, tmp_path, monkeypatch):
    items = sources.find_inputs(photographs(tmp_path / "in", 1))
    monkeypatch.setattr(Path, "write_text", lambda *_: 0)  # the mark is not where the workers look
    with pytest.raises(OutputError, match="does not see this folder"):
        list(sigan_ray.stylize(stylizer, items, tmp_path / "out"))


def test_another_base_on_a_node_is_refused(cluster, stylizer, tmp_path, monkeypatch):
    items = sources.find_inputs(photographs(tmp_path / "in", 1))
    monkeypatch.setattr(stylization.Stylizer, "identity", "of a base that only this machine has")
    with pytest.raises(Exception, match="base 'mini' is another on the node"):
        list(sigan_ray.stylize(stylizer, items, tmp_path / "out"))
    assert files(tmp_path / "out") == {}


# ---- without the cluster

def test_an_input_that_kills_its_process_costs_itself_only():
    worker = workers.Worker(b"", Deadly)
    block = [Entry(k, name, name, False, None) for k, name in enumerate(["a.png", "deadly.png", "c.png"])]
    first, bad, last = (done.record for done in worker.outcome(block))
    assert (first.status, bad.status, last.status) == ("ok", "failed", "ok")
    assert bad.error.type == "InputError" and "deadly.png: the process that worked at it ended" in bad.error.message
    assert first.outputs != last.outputs  # another process


@pytest.mark.parametrize("text, place", [
    ("s3:/b/c", "s3://b/c"), ("s3://b/c/", "s3://b/c"), ("GS://b", "gs://b"), ("file:///a/b", "/a/b"),
    ("file:/a/b", "/a/b"), ("a/b", "a/b"), ("C:/a", "C:/a"), ("/a:b/c", "/a:b/c")])
def test_places_are_read_as_urls_or_paths(text, place):
    assert places.parse(text) == place and places.parse(Path(text)) == str(Path(place)).replace(":/b", "://b")


@pytest.mark.parametrize("how, message", [
    ({"address": "127.0.0.1:1"}, "no Ray cluster at 127.0.0.1:1: Connection refused"),
    ({"address": "nowhere"}, "the address is 'nowhere'"), ({"cpus": 0}, "cpus 0"), ({"block": 0}, "block 0"),
    ({"gpus": -1}, "gpus -1"), ({"cpus": "many"}, "cpus many")])
def test_options_outside_their_range_are_named(how, message, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match=message):
        list(sigan_ray.stylize(None, [], tmp_path / "out", **how))
    assert not (tmp_path / "out").exists()


def test_a_store_without_its_package_is_named(tmp_path):
    with pytest.raises(ConfigError, match="adl://photos"):
        places.inputs("adl://photos", tmp_path / "out")
    with pytest.raises(ConfigError, match="nonsense://photos"):
        places.inputs("nonsense://photos", tmp_path / "out")


def test_sources_that_give_nothing_are_refused(store, tmp_path):
    with pytest.raises(InputError, match="holds no picture"):
        places.inputs("s3://photos/none", tmp_path / "out")
    with pytest.raises(OutputError, match="the output folder is the input folder"):
        places.inputs("s3://photos/in", "s3:/photos/in")


def test_a_list_of_urls_keeps_their_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3://photos/a/1.png\ns3://photos/b/1.png\n\ns3://photos/a/1.png\n"))
    items = places.inputs("-", tmp_path)
    assert [(item.path, item.relative.as_posix()) for item in items] == [
        ("s3://photos/a/1.png", "a/1.png"), ("s3://photos/b/1.png", "b/1.png")]
    assert items == [replace(item, keep_extension=False) for item in items]
