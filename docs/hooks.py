"""Pages of the site that are kept elsewhere in the repository, and links that lead to them (a hook of mkdocs)."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "NOTICE": "notice.md",
             "sigan/assets/mini/MODEL_CARD.md": "model-card.md"}
MARKED = re.compile(r"^(```\w+) norun$", re.MULTILINE)  # the tests' mark, which the site's Markdown takes for no fence
LINK = re.compile(r"(\]\()([^):#]+)((?:#[^)]*)?\))")  # no address with a scheme


def on_files(files, config):
    """Adds the pages of ELSEWHERE."""
    from mkdocs.structure.files import File

    for source, page in ELSEWHERE.items():
        text = (ROOT / source).read_text("utf-8")
        if not source.endswith(".md"):
            text = f"# {source.capitalize()}\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=relinked(text, source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """A page of docs/ with links that hold on the site."""
    name = page.file.src_uri
    return markdown if name in ELSEWHERE.values() else relinked(markdown, f"docs/{name}")


def relinked(text: str, source: str) -> str:
    """The text of `source` as the site wants it: links to files of the repository lead to their pages, or to the first
    where they have none; code has no mark of the tests."""
    def page_of(match: re.Match) -> str:
        before, link, after = match.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if path in ELSEWHERE:
            return f"{before}{ELSEWHERE[path]}{after}"
        if path.startswith("docs/"):
            return f"{before}{path.removeprefix('docs/')}{after}"
        return f"{before}index.md)" if (ROOT / path).exists() else match[0]

    return LINK.sub(page_of, MARKED.sub(r"\1", text))
