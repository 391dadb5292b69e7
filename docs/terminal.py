"""`python docs/terminal.py FOLDER`: the program in a terminal of 80 columns, and the gallery, as pictures for docs.

Run in the environment of sigan, with the shipped styles. Each command runs in a pseudo-terminal of its own; what it
writes is shown by Chromium as the terminal would.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 80, 40
BAR = "━"
COPIES = 4  # of the eight examples, so that a run has a middle
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #1c1f24; width: max-content; padding: 14px 18px; }}
pre {{ margin: 0; font: 14px/1.3 "DejaVu Sans Mono", "Liberation Mono", monospace; color: #d8dee6; }}
</style><pre>{text}</pre>"""


def typed(command: list[str], folder: Path) -> str:
    """Everything that a command writes to a terminal, with its control sequences."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.environ.pop("NO_COLOR", None)
        os.execv(sys.executable, [sys.executable, "-m", "sigan", *command])
    held = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        held += part
    os.waitpid(pid, 0)
    return held.decode("utf-8", "replace").replace("\r\n", "\n")


def midway(text: str) -> str:
    """The screen in the middle of a run with a bar: the lines before it, and one of its states."""
    before, states = "", []
    for frame in text.replace("\r", "\x1b[2K").split("\x1b[2K"):
        line = frame.split("\x1b[1A")[0].rstrip("\n")
        if BAR in line:
            states.append(line)
        elif not states:
            before += line
    if not states:
        raise SystemExit("no bar was drawn")
    return f"{before}{min(states, key=_from_the_middle)}"


def _from_the_middle(state: str) -> float:
    """How far a bar that tells `done/all` is from its middle."""
    done = re.search(r"(\d+)/(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", state))
    return abs(int(done[1]) / int(done[2]) - 0.6) if done else 1.0


def page(command: list[str], text: str) -> str:
    """HTML of a terminal in which `command` was typed."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), color_system="truecolor")
    console.print(Text.from_ansi(text), end="")
    shown = console.export_html(inline_styles=True, code_format="{code}")
    return PAGE.format(text=f"$ sigan {escape(' '.join(command))}\n{shown}")


def main(out: str) -> None:
    from playwright.sync_api import sync_playwright

    target = Path(out).resolve()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        os.environ.update(SIGAN_HOME=str(folder / "home"), HOME=str(folder))
        for k in range(COPIES):
            shutil.copytree(ROOT / "examples" / "portraits", folder / "portraits" / str(k))
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=program, args=["--headless=new", "--no-sandbox"])
        tab = browser.new_page(viewport={"width": 760, "height": 500})

        def keep(html: str, picture: str) -> None:
            tab.set_content(html)
            tab.locator("body").screenshot(path=target / picture)

        for command, picture in ((["--help"], "terminal-help.png"), (["doctor"], "terminal-doctor.png")):
            keep(page(command, typed(command, folder)), picture)
        command = ["stylize", "--style", "watercolor", "portraits", "out"]
        keep(page(command, midway(typed(command, folder))), "terminal-stylize.png")
        subprocess.run([sys.executable, "-m", "sigan", "styles", "gallery", "gallery.html"], cwd=folder, check=True)
        tab.set_viewport_size({"width": 1100, "height": 760})
        tab.goto((folder / "gallery.html").as_uri())
        tab.screenshot(path=target / "gallery.jpg", quality=85)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
