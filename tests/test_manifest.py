"""The reader of packs against hostile files: a PackError with a reason, bounded memory, and nothing else ever raised.

What it accepts is compared with safetensors' own reader. `SIGAN_FUZZ=100000 pytest tests/test_manifest.py` runs longer.
"""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import tracemalloc
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load

from sigan import manifest, packs, styles
from sigan.cli.app import main
from sigan.errors import PackError
from sigan.manifest import PackManifest
from sigan.packs import StylePack

MANIFEST = PackManifest(name="ink", base="mini", base_hash="ab" * 32, base_resolution=16, recipe="styleidentity",
                        config={"alpha": 0.5, "swap_layers": [7, 9]}, seed=-7, steps=3, references=2,
                        licence="CC BY-NC-SA 4.0", author="Åsa 山", card="two\nlines",
                        figures={"style": {"value": 0.1, "faces": 8}})
FUZZ = settings(max_examples=int(os.environ.get("SIGAN_FUZZ", 150)), deadline=None, derandomize="SIGAN_FUZZ" not in
                os.environ, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
TENSOR = {"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}


def picture(width: int = 8, height: int = 4, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(buffer, format)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that claims that size."""
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def pack() -> StylePack:
    draw = torch.Generator().manual_seed(0)
    deltas = {"synthesis.a": torch.randn(64, 32, generator=draw).half(), "synthesis.b": torch.ones(3).half()}
    return replace(StylePack(MANIFEST, deltas).compacted(), picture=picture())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("pack") / "ink.safetensors"
    pack().save(path)
    return path.read_bytes()


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def around(tensors: dict, data: bytes = b"", text: str | None = None, **metadata: str) -> bytes:
    """A file with a sound manifest and hash around those tensors."""
    import hashlib

    known = {"sigan": MANIFEST.to_json() if text is None else text,
             "modelspec.hash_sha256": "0x" + hashlib.sha256(data).hexdigest(), **metadata}
    return raw({"__metadata__": known, **tensors}, data)


def changed(**values: object) -> bytes:
    return around({}, text=json.dumps({**asdict(MANIFEST), **values}))


def load_bytes(folder: Path, content: bytes) -> StylePack:
    path = folder / "hostile.safetensors"
    path.write_bytes(content)
    return StylePack.load(path)


HOSTILE = {
    "empty": (b"", "longer than the file"),
    "no header": (struct.pack("<Q", 0), "longer than the file"),
    "length beyond the file": (raw(b"{}", length=2**63), "longer than the file"),
    "length of all the file": (raw(b"{}", length=3), "longer than the file"),
    "a megabyte of header": (raw({"__metadata__": {"sigan": "x" * (1 << 20)}}), "header has 10"),
    "no text": (raw(b"\xff\xfe{}"), "header is no text"),
    "no JSON": (raw(b"{'a': 1}"), "not JSON"),
    "no object": (raw([1]), "not a JSON object"),
    "deep": (raw(b"[" * 100_000), "nested too deep"),
    "a key twice": (raw(b'{"__metadata__":{},"__metadata__":{}}'), "a key stands twice"),
    "metadata that are no texts": (raw({"__metadata__": {"sigan": {}}}), "metadata are no texts"),
    "no manifest": (raw({"x": TENSOR}, bytes(8)), "no style pack"),
    "overlapping": (around({"synthesis.a": TENSOR, "synthesis.b": {**TENSOR, "data_offsets": [4, 12]}}, bytes(12)),
                    "does not begin where"),
    "the same bytes twice": (around({"synthesis.a": TENSOR, "synthesis.b": TENSOR}, bytes(8)), "does not begin where"),
    "a hole": (around({"synthesis.a": {**TENSOR, "data_offsets": [8, 16]}}, bytes(16)), "does not begin where"),
    "bytes left over": (around({"synthesis.a": TENSOR}, bytes(9)), "tensors end at"),
    "bytes missing": (around({"synthesis.a": TENSOR}, bytes(7)), "tensors end at"),
    "huge": (around({"synthesis.a": {"dtype": "F16", "shape": [2**40], "data_offsets": [0, 2**41]}}), "has the shape"),
    "huge by product": (around({"synthesis.a": {**TENSOR, "shape": [2**20] * 8}}, bytes(8)), "does not fill"),
    "negative": (around({"synthesis.a": {**TENSOR, "shape": [-4]}}, bytes(8)), "has the shape"),
    "backwards": (around({"synthesis.a": {**TENSOR, "data_offsets": [8, 0]}}, bytes(8)), "does not fill"),
    "true for one": (around({"synthesis.a": {**TENSOR, "shape": [True, 4]}}, bytes(8)), "has the shape"),
    "nine axes": (around({"synthesis.a": {**TENSOR, "shape": [1] * 8 + [4]}}, bytes(8)), "has the shape"),
    "doubles": (around({"synthesis.a": {**TENSOR, "dtype": "F64", "shape": [1]}}, bytes(8)), "of type 'F64'"),
    "a type that is a list": (around({"synthesis.a": {**TENSOR, "dtype": []}}, bytes(8)), "of type"),
    "more in a tensor": (around({"synthesis.a": {**TENSOR, "code": "x"}}, bytes(8)), "not described by"),
    "no tensor": (around({"synthesis.a": 3}), "not described by"),
    "too many tensors": (around({f"s{i}": 0 for i in range(5000)}), "5000 tensors"),
    "a mapping's weight": (around({"mapping.a": TENSOR}, bytes(8)), "not synthesis weights: mapping.a"),
    "a name with escapes": (around({"synthesis.\x1b[2J": TENSOR}, bytes(8)), r"called 'synthesis.\x1b[2J'"),
    "not a number": (around({"synthesis.a": TENSOR}, b"\x00\x7e" * 4), "not finite in synthesis.a"),
    "infinite": (around({"synthesis.a": TENSOR}, b"\x00\x7c" * 4), "not finite in synthesis.a"),
    "infinite scale": (around({"synthesis.a": {"dtype": "U8", "shape": [2, 8], "data_offsets": [0, 16]},
                               "scale.synthesis.a": {"dtype": "F16", "shape": [1], "data_offsets": [16, 18]}},
                              b"\xff" * 16 + b"\x00\x7c"), "not finite in synthesis.a"),
    "no scale": (around({"synthesis.a": {"dtype": "U8", "shape": [2, 8], "data_offsets": [0, 16]}}, bytes(16)),
                 "not one fp16 scale"),
    "a scale of nothing": (around({"scale.synthesis.a": TENSOR}, bytes(8)), "scales nothing"),
    "another hash": (around({"synthesis.a": TENSOR}, bytes(8), **{"modelspec.hash_sha256": "\x1b[31m"}), "is corrupt"),
    "manifest: no JSON": (around({}, text="{"), "manifest is not JSON"),
    "manifest: deep": (around({}, text="[" * 100_000), "nested too deep"),
    "manifest: large": (around({}, text=json.dumps({"card": "x" * 200_000})), "characters"),
    "manifest: not a number": (around({}, text='{"format": NaN}'), "NaN is no JSON number"),
    "manifest: escapes in the name": (changed(name="\x1b]0;gone\x07"), r"name is '\x1b]0;gone\x07', not letters"),
    "manifest: a path for a name": (changed(name="../../ink"), "not letters"),
    "manifest: a drive for a name": (changed(name="C:\\ink"), "not letters"),
    "manifest: HTML for a base": (changed(base="<script>"), "not letters"),
    "manifest: escapes in the author": (changed(author="\x1b[31mred"), "not printable text"),
    "manifest: C1 controls": (changed(author="\x9b31m"), "not printable text"),
    "manifest: reordered text": (changed(licence="CC0 \u202egnihton"), "not printable text"),
    "manifest: half a character": (changed(card="\ud800"), "not printable text"),
    "manifest: escapes in the card": (changed(card="a\x1b[2J"), "not printable text"),
    "manifest: escapes in the config": (changed(config={"a": ["\x1b"]}), "not printable text"),
    "manifest: escapes in a key": (changed(config={"\x1b": 1}), "not printable text"),
    "manifest: escapes in an unknown field": (changed(**{"\x1b[2J": 1}), r"unknown '\x1b[2J'"),
    "manifest: long text": (changed(author="x" * 2000), "longer than"),
    "manifest: deep config": (changed(config={"a": [[[[[[[[[1]]]]]]]]]}), "nested deeper than"),
    "manifest: large config": (changed(config={"a": [1] * 20_000}), "more than 10000 values"),
    "manifest: infinite": (around({}, text=MANIFEST.to_json().replace('"value": 0.1', '"value": 1e999')),
                           "number out of range"),
    "manifest: no hash": (changed(base_hash="AB" * 32), "not 64 hexadecimal digits"),
    "manifest: negative steps": (changed(steps=-1), "out of range"),
    "preview: elsewhere": (around({}, **{"modelspec.thumbnail": "https://example.org/a.png"}), "no data URI"),
    "preview: a vector": (around({}, **{"modelspec.thumbnail": "data:image/svg+xml;base64,PHN2Zz4="}), "no data URI"),
    "preview: no base64": (around({}, **{"modelspec.thumbnail": "data:image/png;base64,\x1b['"}), "not base64"),
    "preview: no picture": (around({}, **{"modelspec.thumbnail": "data:image/png;base64,AAAA"}), "no PNG or WebP"),
    "preview: large": (around({}, **{"modelspec.thumbnail": "data:image/png;base64," + "A" * 400_000}), "256 KiB"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_pack_is_refused_with_a_reason(case, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SIGAN_HOME", str(tmp_path / "home"))
    content, reason = HOSTILE[case]
    (tmp_path / "hostile.safetensors").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(PackError) as caught:
        StylePack.load(tmp_path / "hostile.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason in caught.value.message and "hostile.safetensors" in caught.value.message
    assert manifest.printable(caught.value.message) and len(caught.value.message) < 1000
    assert peak < 64 << 20
    assert main(["styles", "install", str(tmp_path / "hostile.safetensors")]) == 7
    assert reason in capsys.readouterr().err and styles._files() == []


@pytest.mark.parametrize("content", [
    bomb(100_000, 100_000), bomb(2**31 - 1, 1), bomb(0, 5), picture(3000, 900), picture(format="GIF"),
    picture(format="JPEG"), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", picture()[:40], bomb(8, 8),
    b"RIFF\x20\0\0\0WEBPVP8X" + bytes(20), picture(format="WEBP")[:-9],
])
def test_a_preview_that_is_no_picture_of_fair_size(content, tmp_path):
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    with pytest.raises(PackError, match="hostile.safetensors: the pack's preview"):
        load_bytes(tmp_path, around({}, **{"modelspec.thumbnail": uri}))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_preview_comes_back_as_it_was(format, tmp_path):
    replace(pack(), picture=picture(300, 200, format)).save(tmp_path / "a.safetensors")
    assert packs.preview(tmp_path / "a.safetensors") == picture(300, 200, format)
    assert StylePack.load(tmp_path / "a.safetensors").picture == picture(300, 200, format)
    replace(pack(), picture=None).save(tmp_path / "b.safetensors")
    assert packs.preview(tmp_path / "b.safetensors") is None


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    for odd in (replace(pack(), manifest=replace(MANIFEST, author="\x1b[31m")), replace(pack(), picture=b"no")):
        with pytest.raises(PackError):
            odd.save(tmp_path / "odd.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(PackError, match="is not a file"):
            packs.read_manifest(path)
    with pytest.raises(PackError, match="cannot read pack"):
        packs.read_manifest("a\0b")


def test_the_manifest_is_read_whatever_the_tensors(tmp_path):
    """A list of styles reads no tensors; whoever uses one checks them."""
    (tmp_path / "lying.safetensors").write_bytes(around({"synthesis.a": {**TENSOR, "shape": [9]}}))
    assert packs.read_manifest(tmp_path / "lying.safetensors") == MANIFEST
    with pytest.raises(PackError, match="does not fill"):
        StylePack.load(tmp_path / "lying.safetensors")


def test_a_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "huge.safetensors", "wb") as file:
        file.write(around({}))
        file.truncate(1 << 40)  # sparse
    with pytest.raises(PackError, match="has 1048576 MiB"):
        StylePack.load(tmp_path / "huge.safetensors")


def test_a_manifest_comes_back_from_its_json():
    assert PackManifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_a_manifest_before_previews_and_figures_is_read():
    old = {key: value for key, value in asdict(MANIFEST).items()
           if key not in ("figures", "base_licence", "references_licence", "made_with")}
    assert PackManifest.from_json(json.dumps(old)) == replace(MANIFEST, figures={})


@pytest.mark.parametrize(("change", "message"), [
    ({"format": 2}, "pack format 2; this sigan reads format 1"),
    ({"format": True}, "pack format True"),
    ({"colour": "red"}, "unknown 'colour'"),
    ({"steps": "3"}, "steps is '3', not int"),
    ({"seed": True}, "seed is True, not int"),
    ({"config": None}, "config is None, not dict"),
])
def test_manifest_is_strict(change, message):
    with pytest.raises(PackError, match=message):
        PackManifest.from_json(json.dumps({**asdict(MANIFEST), **change}))


def test_manifest_names_all_that_is_missing():
    with pytest.raises(PackError, match="missing name; missing base; missing base_hash"):
        PackManifest.from_json('{"format": 1}')


# ---- fuzzing

@FUZZ
@given(data=st.data())
def test_any_damage_is_found(data, whole, tmp_path):
    """Bytes changed, cut out or put in anywhere, most often in the header."""
    content, start = bytearray(whole), 8 + int.from_bytes(whole[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(0, 7), st.integers(8, start), st.integers(0, len(content) - 1)))
        cut = data.draw(st.integers(0, 3))
        content[place:place + cut] = data.draw(st.binary(max_size=3))
    try:
        found = load_bytes(tmp_path, bytes(content))
    except PackError as error:
        assert manifest.printable(error.message)
        return
    assert found.hash == pack().hash  # what got through is not in the weights
    load(bytes(content))  # and safetensors takes the file


scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 2**66), st.floats(), st.text(max_size=8))
values = st.recursive(scalars, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)), max_leaves=12)
sizes = st.one_of(st.integers(0, 6), st.integers(-1, 2**64), scalars)
entries = st.one_of(values, st.fixed_dictionaries({
    "dtype": st.sampled_from(["F16", "U8", "F32", "BF16", "I64", "F8_E4M3", "x"]),
    "shape": st.lists(sizes, max_size=4), "data_offsets": st.lists(sizes, min_size=2, max_size=2)}))


@FUZZ
@given(tensors=st.dictionaries(st.sampled_from(["synthesis.a", "scale.synthesis.a", "synthesis.b", "", "mapping"]),
                               entries, max_size=3), data=st.binary(max_size=16))
def test_what_the_header_reader_accepts_safetensors_accepts(tensors, data):
    content = around(tensors, data)
    try:
        header = manifest.read_header(io.BytesIO(content), len(content))
    except PackError:
        return
    assert {key: tuple(tensor.shape) for key, tensor in load(content).items()} == {
        key: shape for key, (_, shape) in header.tensors.items()}


@FUZZ
@given(change=st.dictionaries(st.sampled_from([*asdict(MANIFEST), "other"]), values, max_size=4))
def test_any_manifest_is_a_manifest_or_an_error(change):
    text = json.dumps({**asdict(MANIFEST), **change})
    try:
        found = PackManifest.from_json(text)
    except PackError as error:
        assert manifest.printable(error.message)
        return
    assert PackManifest.from_json(found.to_json()) == found
    assert all(manifest.printable(value, lines=True) for value in asdict(found).values() if isinstance(value, str))


@FUZZ
@given(text=st.one_of(st.text(), st.binary().map(lambda raw: "data:image/png;base64," + base64.b64encode(raw).decode()),
                      st.binary(min_size=9).map(lambda raw: "data:image/webp;base64," + base64.b64encode(
                          b"RIFF" + raw[:4] + b"WEBPVP8 " + raw).decode())))
def test_any_preview_is_a_picture_or_an_error(text):
    try:
        found = manifest.decode_preview(text)
    except PackError:
        return
    assert found[:4] in (b"\x89PNG", b"RIFF")
