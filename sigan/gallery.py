"""The gallery: one self-contained HTML page of style packs with their previews. No script, no network, no trust.

Whatever a manifest says is escaped, and the page's policy forbids it to run or fetch anything.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from sigan.errors import PackError
from sigan.manifest import PREVIEWS, PackManifest, preview, read_manifest
from sigan.styles import StyleEntry

TEMPLATE = Path(__file__).parent / "assets" / "gallery.html"


@dataclass(frozen=True)
class Exhibit:
    """One style of the page: its manifest and picture, or the reason why it is not shown."""

    entry: StyleEntry
    manifest: PackManifest | None = None
    picture: bytes | None = None
    problem: str = ""


def exhibits(entries: Iterable[StyleEntry]) -> list[Exhibit]:
    """What the packs' headers say; a pack that is not valid becomes a problem, a preview that is none is left out."""
    shown = []
    for entry in entries:
        try:
            shown.append(Exhibit(entry, read_manifest(entry.path), _picture(entry.path)))
        except PackError as error:
            shown.append(Exhibit(entry, problem=error.message.replace(str(entry.path), entry.path.name)))
    return shown


def page(shown: Iterable[Exhibit]) -> str:
    """The page as one HTML text."""
    shown = list(shown)
    cards = [_card(exhibit, exhibit.manifest) for exhibit in shown if exhibit.manifest]
    broken = [exhibit for exhibit in shown if not exhibit.manifest]
    problems = "".join(f"<li><b>{escape(exhibit.entry.name)}</b> {escape(exhibit.problem)}</li>" for exhibit in broken)
    count = "one style" if len(cards) == 1 else f"{len(cards)} styles"
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        count=count, cards="\n".join(cards) or "<p>No style is installed.</p>",
        problems=f"<section><h2>Not shown</h2><ul>{problems}</ul></section>" if broken else "")


def _card(exhibit: Exhibit, m: PackManifest) -> str:
    entry = exhibit.entry
    name = escape(entry.name)
    facts = {"base": f"{m.base}, {m.base_resolution}²", "learned from": _counted(m.references, "reference"),
             "recipe": m.recipe, **_figures(m), "author": m.author, "licence": m.licence,
             "of the references": m.references_licence or "not declared", "from": entry.origin}
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items() if value)
    card = f"<p>{escape(m.card)}</p>" if m.card else ""
    return (f'<article id="{name}"><h2>{name}</h2>{_image(exhibit)}{card}<dl>{rows}</dl>'
            f"<pre>sigan stylize --style {name} IN OUT</pre></article>")


def _image(exhibit: Exhibit) -> str:
    if not exhibit.picture:
        return '<p class="none">no preview</p>'
    kind = "png" if exhibit.picture[:4] == b"\x89PNG" else "webp"
    text = base64.b64encode(exhibit.picture).decode()
    return (f'<img src="data:image/{kind};base64,{text}" '
            f'alt="faces of the base, and in the style {escape(exhibit.entry.name)}">')


def _figures(m: PackManifest) -> dict[str, str]:
    """The figures measured at training that have a value, in short."""
    found = {name: figure.get("value") for name, figure in m.figures.items() if isinstance(figure, dict)}
    return {name: f"{value:.3g}" for name, value in found.items() if isinstance(value, (int, float))}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _picture(path: Path) -> bytes | None:
    """The preview's file, when every pixel of it can be decoded."""
    from sigan import images

    try:
        picture = preview(path)
    except PackError:
        return None
    return picture if picture and images.decodes(picture, PREVIEWS) else None
