"""The gallery, seen by a real browser: at a desk and on a phone, offline, with packs that mean no good."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sigan import gallery, manifest, styles
from sigan.packs import PackManifest, StylePack

MANIFEST = PackManifest(name="ink", base="mini", base_hash="ab" * 32, base_resolution=16, recipe="sigan", config={},
                        seed=7, steps=3, references=2, licence="CC BY-NC-SA 4.0", author="A. Person",
                        card="Two lines\nof what it is", figures={"identity": {"value": 0.31234, "faces": 8}})
EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>\"'&${cards}"


def strip(width: int = 256) -> bytes:
    pixels = np.linspace(0, 255, 128 * width * 3).reshape(128, width, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path, given: PackManifest, picture: bytes | str | None = None) -> styles.StyleEntry:
    """A pack's file as anyone could write it: the preview is not looked at."""
    path.parent.mkdir(exist_ok=True)
    metadata = {manifest.KEY: given.to_json()}
    if picture:
        metadata[manifest.PREVIEW_KEY] = picture if isinstance(picture, str) else manifest.encode_preview(picture)
    save_file({"synthesis.b4.bias": torch.ones(3).half()}, path, metadata)
    return styles.StyleEntry(path.stem, path, "home")


@pytest.fixture
def entries(tmp_path):
    folder = tmp_path / "packs"
    torn = styles.StyleEntry("torn<b>", folder / "torn.safetensors", "home")
    shown = [write(folder / "ink.safetensors", MANIFEST, strip()),
             write(folder / "plain.safetensors", replace(MANIFEST, name="plain", card="", figures={})),
             write(folder / "evil.safetensors", replace(MANIFEST, name="evil", author=EVIL, licence=EVIL, card=EVIL * 5,
                                                        recipe="x" * 900), strip(512)),
             write(folder / "blank.safetensors", replace(MANIFEST, name="blank"), strip()[:60] + bytes(200)),
             write(folder / "script.safetensors", MANIFEST, "data:text/html;base64,PHNjcmlwdD4=")]
    torn.path.write_bytes(b"no")
    return [*shown, torn]


def test_what_is_shown_and_what_is_not(entries):
    shown = gallery.exhibits(entries)
    assert [exhibit.entry.name for exhibit in shown if exhibit.picture] == ["ink", "evil"]
    assert [exhibit.entry.name for exhibit in shown if exhibit.problem] == ["torn<b>"]
    page = gallery.page(shown)
    assert "<b>torn&lt;b&gt;</b>" in page and "5 styles for sigan" in page and "0.312" in page
    assert EVIL not in page and "<script" not in page and "<img src=x" not in page and "&lt;img src=x" in page
    assert "${cards}" in page  # a manifest is no template
    assert "No style is installed" in gallery.page([])


def test_a_pack_that_train_would_write_shows_its_preview(tmp_path):
    StylePack(MANIFEST, {"synthesis.b4.bias": torch.ones(3).half()}, picture=strip()).save(tmp_path / "a.safetensors")
    (exhibit,) = gallery.exhibits([styles.StyleEntry("a", tmp_path / "a.safetensors", "home")])
    assert exhibit.picture == strip() and exhibit.manifest == MANIFEST


@pytest.mark.parametrize(("kind", "width", "height"), [("phone", 360, 780), ("desk", 1280, 900)])
def test_the_page_in_a_browser(entries, tmp_path, browser, screenshots, kind, width, height):
    path = tmp_path / "gallery.html"
    path.write_text(gallery.page(gallery.exhibits(entries)), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": height})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    page.screenshot(path=screenshots / f"gallery-{kind}.png", full_page=True)
    assert [url for url in asked if not url.startswith(("data:", path.as_uri()))] == [] and said == []
    assert page.title() == "Styles" and page.locator("article").count() == 5
    assert page.evaluate("document.querySelectorAll('script, [onerror]').length") == 0
    assert EVIL in page.locator("#evil dd").all_inner_texts()  # told word by word
    widths = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert widths == [256, 512]
    scroll, columns = page.evaluate("[document.documentElement.scrollWidth, "
                                    "new Set([...document.querySelectorAll('article')].map(a => a.offsetLeft)).size]")
    assert scroll <= width and columns == (1 if kind == "phone" else 3)
    page.close()
