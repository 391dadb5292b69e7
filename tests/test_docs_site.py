"""The site builds without a warning, holds every page and public name, and asks no other host for anything."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sigan

ROOT = Path(__file__).resolve().parent.parent
FETCHED = re.compile(r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//|"""
                     r"""<link\b[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload)[^>]*href=["']?(?:https?:)?//|"""
                     r"""url\(\s*["']?(?:https?:)?//|@import\s+["'](?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        try:
            here = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            here = None
        if not here:
            pytest.skip("the site's builder is not here: `pip install '.[docs]'`")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
                          cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "", "")
    return out


def test_it_builds_without_a_warning_and_holds_every_page(site):
    """Those of docs/ and those kept elsewhere; each can be reached from the first by its navigation."""
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "changelog", "model-card", "notice"}
    assert {path.stem for path in site.glob("*.html")} - {"404"} == pages
    home = (site / "index.html").read_text("utf-8")
    linked = set(re.findall(r'href="\.?/?([\w-]+)\.html"[^>]*class="md-nav__link', home))
    assert pages - linked - {"index"} == set()


def test_no_page_fetches_from_another_host(site):
    fetching = {path.relative_to(site): FETCHED.findall(path.read_text("utf-8"))
                for path in [*site.rglob("*.html"), *site.rglob("*.css")]}
    assert {path: found for path, found in fetching.items() if found} == {}


@pytest.mark.parametrize("text", [
    '<script src="https://x.y/z.js">', '<link href="a" rel=stylesheet><link rel="stylesheet" href="//x/y.css">',
    "@import 'https://x/y.css'", "a{background:url(//x/y.png)}", '<img alt="" src=https://x/y.png>',
])
def test_what_would_be_fetched_is_seen(text):
    assert FETCHED.search(text)


def test_links_between_pages_hold(site):
    """In the built pages, README's and the model card's among them."""
    gone = []
    for path in site.glob("*.html"):
        text = path.read_text("utf-8")
        article = text.partition("<article")[2].partition("</article")[0]
        links = re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', article)
        gone += [f"{path.name}: {link}" for link in links if not (site / link).exists()]
    assert gone == []


def test_code_is_code_on_every_page(site):
    """A fence that the site's Markdown does not know shows as text, and swallows the page up to the next one."""
    fences = {path.name: path.read_text("utf-8").partition("<article")[2].count("```") for path in site.glob("*.html")}
    assert {name: count for name, count in fences.items() if count} == {}


def test_every_public_name_is_on_the_apis_page(site):
    page = (site / "api.html").read_text("utf-8")
    shown = set(re.findall(r'id="sigan\.(?:errors\.)?(\w+)"', page))
    assert set(sigan.__all__) - {"__version__"} - shown == set()


def test_type_checkers_see_the_names_that_load_lazily():
    source = (ROOT / "sigan" / "__init__.py").read_text("utf-8")
    assert set(sigan._LAZY) <= set(sigan.__all__)
    told = {(public, (module, name)) for module, name, public
            in re.findall(r"    from sigan\.(\w+) import (\w+) as (\w+)", source)}
    assert told == set(sigan._LAZY.items())


def test_every_public_name_says_what_it_is():
    undocumented = [name for name in sigan.__all__ if name != "__version__" and not getattr(sigan, name).__doc__]
    assert undocumented == []
