"""The participant's page: one HTML file without a network, or the same page fed by the server.

Neither says which method drew what: pictures have random ids, and sheets name what stands left and right.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sigan.study.plan import Study

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "study"
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
SECONDS_EACH = 8.0  # a guess at how long people look at a pair, for the page to say how long it takes


def texts() -> dict[str, dict[str, str]]:
    """The page's own words: language -> key -> text."""
    return json.loads(_asset("texts.json"))


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text("utf-8")


def alone(study: Study, picture: Callable[[str], bytes]) -> str:
    """The page as one file that hands back a vote file; `picture` gives the bytes of an id."""
    kind = TYPES[study.suffix]
    held = {name: f"data:{kind};base64,{base64.b64encode(picture(name)).decode()}" for name in study.pictures}
    sheets = [[list(shown) for shown in sheet(study, number)] for number in range(len(study.sheets))]
    return _render({**_facts(study), "mode": "file", "pictures": held, "sheets": sheets}, policy(served=False))


def served(study: Study) -> str:
    """The page that asks the server for its sheet and sends each answer."""
    return _render({**_facts(study), "mode": "server", "suffix": study.suffix}, policy(served=True))


def sheet(study: Study, number: int) -> list[tuple[str, str, str]]:
    """What stands at each place of a sheet: ids of the photograph ("" without), the left and the right picture."""
    shown = [study.shown(number, position) for position in range(study.length)]
    return [(study.pairs[one.pair].photograph, one.left, one.right) for one in shown]


def policy(served: bool) -> str:
    """The Content-Security-Policy: this page's own style and script by their hash, and nothing from elsewhere."""
    script, style = (base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()
                     for name in ("page.js", "page.css"))
    return "; ".join(["default-src 'none'", f"script-src 'sha256-{script}'", f"style-src 'sha256-{style}'",
                      "img-src " + ("'self'" if served else "data:"), *(["connect-src 'self'"] if served else []),
                      "base-uri 'none'", "form-action 'none'"])


def _facts(study: Study) -> dict[str, Any]:
    return {"study": study.hash, "length": study.length, "references": list(study.references),
            "minutes": max(1, math.ceil(study.length * SECONDS_EACH / 60)), "invited": bool(study.invitations),
            "photographs": any(pair.photograph for pair in study.pairs),
            "texts": {language: dict(words) for language, words in study.texts.items()}}


def _render(data: dict[str, Any], policy: str) -> str:
    english = data["texts"]["en"]
    parts = {"policy": html.escape(policy), "title": html.escape(english["title"]), "style": _asset("page.css"),
             "script": _asset("page.js"), "no_script": html.escape(english["no_script"]), "data": _inert(data)}
    before = _asset("page.html").split("{{")
    pieces = [before[0]]
    for piece in before[1:]:  # one pass, so that no text can stand in for another
        name, _, rest = piece.partition("}}")
        pieces += [parts[name], rest]
    return "".join(pieces)


def _inert(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in, whatever the texts hold."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
