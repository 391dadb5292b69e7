"""Completion as a shell asks for it: commands, options, the names of styles and bases; quick, and silent on errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from sigan.cli import app

HEAVY = ("torch", "numpy", "PIL", "dlib", "rich")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a style and a base of the user's; completion reads their names, not the files."""
    monkeypatch.setenv("SIGAN_HOME", str(tmp_path))
    for path in ("styles/inkwash.safetensors", "styles/oil.safetensors", "bases/mine/base.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"not read")
    return tmp_path


def ask(*words: str, monkeypatch, capsys) -> list[str]:
    """The answers to a Tab after `words`, the last being the one begun."""
    monkeypatch.setenv("_SIGAN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(["sigan", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit):
        app.main([])
    out, err = capsys.readouterr()
    assert err == ""
    return out.split()


@pytest.mark.parametrize(("words", "answers"), [
    (["st"], {"stylize", "styles", "study"}),
    (["stylize", "--style", "in"], {"inkwash"}),
    (["stylize", "--style", ""], {"inkwash", "oil"}),
    (["stylize", "--style", "oil+"], {"oil+inkwash", "oil+oil"}),
    (["stylize", "--base", ""], {"mini", "mine"}),
    (["--verbose", "stylize", "--style", "o"], {"oil"}),
    (["styles", "remove", "o"], {"oil"}),
    (["bases", "show", "mi"], {"mini", "mine"}),
    (["stylize", "--keep"], {"--keep-color"}),
])
def test_completion_offers_the_names_that_fit(home, words, answers, monkeypatch, capsys):
    assert set(ask(*words, monkeypatch=monkeypatch, capsys=capsys)) == answers


def test_what_fails_says_nothing(home, monkeypatch, capsys):
    from sigan import styles

    def fail():
        raise OSError("gone")

    monkeypatch.setattr(styles, "names", fail)
    monkeypatch.setenv("_SIGAN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "sigan\nstylize\n--style\n")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert app.main([]) == 1
    assert capsys.readouterr() == ("", "")


def test_bash_completes_by_the_script_that_is_shown(home, tmp_path):
    """The shell itself: sources what `--show-completion` shows, and presses Tab, without one heavy import."""
    bash = shutil.which("bash")
    if not bash:
        pytest.skip("no bash on the PATH")
    program = tmp_path / "bin" / "sigan"
    program.parent.mkdir()
    program.write_text(f"""#!{sys.executable}
import sys
from sigan.cli.app import main
try:
    sys.exit(main())
finally:
    assert not set({HEAVY}) & set(sys.modules), sorted(sys.modules)
""")
    program.chmod(0o755)
    script = """
        eval "$(_SIGAN_COMPLETE=source_bash sigan)"
        COMP_WORDS=(sigan stylize --style ink) COMP_CWORD=3
        _sigan_completion sigan && printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([bash, "--norc", "-c", script], capture_output=True, text=True, timeout=240,
                          env={**os.environ, "PATH": path})
    assert (done.stdout, done.stderr) == ("inkwash\n", "")
