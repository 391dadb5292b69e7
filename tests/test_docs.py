"""What the README and docs/ say is so: blocks run, commands and options exist, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

import sigan
from sigan import errors
from sigan.cli.app import _take_config as take_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
# What the pages say and what is run here: training is told in full and run short.
SHORTENED = {"steps=300": "steps=2, measure=0"}
RUN = {"sh", "python"}
ANYWHERE = ("--verbose", "--debug")
FACES = 2  # of the examples, for the same reason
EXAMPLES = ROOT / "examples" / "portraits"


def blocks(page: Path) -> list[tuple[str, bool, str]]:
    """(language, whether to run it, text) of each fenced block."""
    return [(language, "norun" not in rest, text) for language, rest, text in BLOCK.findall(page.read_text("utf-8"))]


def commands(page: Path) -> list[list[str]]:
    """Every `sigan …` line of the page's shell blocks, as words."""
    lines = [line for language, _, text in blocks(page) if language == "sh" for line in text.splitlines()]
    words = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("sigan ")]
    return [take_config([word for word in line if word not in ANYWHERE])[1] for line in words]


@pytest.fixture(scope="module")
def root_command():
    import typer

    from sigan.cli.app import build

    return typer.main.get_command(build())


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_begins_with_the_two_commands():
    lines = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line][1:3]
    assert [line.split("#")[0].split() for line in lines] == [["make", "demo"], ["make", "test"]]


def test_the_cli_page_is_what_the_commands_say(generate, monkeypatch):
    monkeypatch.setenv("SIGAN_PLUGINS", "")
    assert generate.TARGET.read_text("utf-8") == generate.reference(), "run `make docs`"


def test_the_exit_codes_told_are_those_of_the_errors(generate):
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", generate.HEAD, re.MULTILINE)}
    raised = {kind.exit_code for kind in vars(errors).values()
              if isinstance(kind, type) and issubclass(kind, errors.SiganError)}
    assert raised | {0, 130} == told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page, root_command):
    for words in commands(page):
        command, rest = root_command, list(words)
        if rest and rest[0] in {name for param in command.params for name in param.opts}:
            continue  # an option of `sigan` itself
        while getattr(command, "commands", None):
            assert rest and rest[0] in command.commands, f"sigan {' '.join(words)}: no such command"
            command = command.commands[rest.pop(0)]
        known = {name for param in command.params for name in [*param.opts, *param.secondary_opts]}
        unknown = {word.split("=")[0] for word in rest if word.startswith("--")} - known
        assert not unknown, f"sigan {' '.join(words)}: no such option"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    gone = [link for link in LINK.findall(page.read_text("utf-8"))
            if "://" not in link and not (page.parent / link).exists()]
    assert gone == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page):
    targets = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1].split())
    text = page.read_text("utf-8")
    told = re.findall(r"^    make (\w+)", text, re.MULTILINE) + re.findall(r"`make (\w+)", text)
    assert set(told) <= targets


@pytest.mark.parametrize("page", [page for page in PAGES if RUN & {name for name, run, _ in blocks(page) if run}],
                         ids=lambda page: page.name)
def test_blocks_run(page, tmp_path, monkeypatch, capfd):
    """In one folder that holds some examples, one after the other, with the shipped base and packs."""
    from sigan import styles
    from sigan.cli.app import main

    monkeypatch.delenv("SIGAN_PLUGINS")
    if not EXAMPLES.is_dir() or "watercolor" not in styles.installed():
        pytest.skip("needs examples/portraits and the plugin sigan-styles-classic installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGAN_HOME", str(tmp_path / "home"))
    portraits = tmp_path / "examples" / "portraits"
    portraits.mkdir(parents=True)
    for path in sorted(EXAMPLES.glob("*.png"))[:FACES]:
        shutil.copy(path, portraits)
    names: dict = {}
    for language, run, text in blocks(page):
        for told, short in SHORTENED.items():
            text = text.replace(told, short)
        if run and language == "python":
            exec(compile(text, page.name, "exec"), names)
        elif run and language == "toml" and (named := re.match(r"# (\S+\.toml)\n", text)):
            (tmp_path / named[1]).write_text(text, encoding="utf-8")
        elif run and language == "sh":
            for line in text.splitlines():
                code = main(shlex.split(line, comments=True)[1:])
                assert code == 0, f"{line}: exit code {code}\n{capfd.readouterr().err}"


def test_the_tests_that_need_something_are_as_many_as_told(request):
    """Of a part of the suite, no more than told."""
    text = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    told = {name: int(count) for name, count in re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE)}
    declared = [line.partition(":")[0] for line in request.config.getini("markers")]
    assert set(told) == {"gpu", "weights", "shared", "browser", "cluster"} <= set(declared)
    items = request.session.items
    found = {name: sum(item.get_closest_marker(name) is not None for item in items) for name in told}
    option = request.config.option
    files = set(Path(__file__).parent.glob("test_*.py"))
    part = option.keyword or option.markexpr or {item.path for item in items} != files
    assert all(found[name] <= told[name] if part else found[name] == told[name] for name in told), found


def test_the_version_is_the_same_everywhere():
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    assert re.search(r'^version = "(.*)"$', pyproject, re.MULTILINE)[1] == sigan.__version__
    assert f"## {sigan.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_weights_are_small_and_carry_a_card():
    folder = ROOT / "sigan" / "assets" / "mini"
    held = {path.name: path.stat().st_size for path in folder.glob("*")}
    if not held:
        pytest.skip("the embedded base is not in this checkout")
    assert "MODEL_CARD.md" in held
    assert sum(held.values()) <= 60_000_000
