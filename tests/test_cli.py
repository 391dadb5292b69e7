"""The door: quick help, exit codes, streams, and errors as text."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import typer

import sigan
from sigan.cli import app, batch, render
from sigan.errors import (
    ConfigError,
    InputError,
    NoFaceError,
    OfflineError,
    OutputError,
    PackError,
    UnknownStyleError,
    UnreadableImageError,
    WeightsError,
)
from sigan.events import Failure, ItemDone

HEAVY = ("torch", "numpy", "PIL", "dlib", "rich", "lpips")


def run(*arguments: str, probe: str = "") -> subprocess.CompletedProcess:
    """`sigan` in a fresh interpreter; `probe` runs after it."""
    code = f"import sys; from sigan.cli.app import main; code = main(sys.argv[1:]); {probe}; sys.exit(code)"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["stylize", "--help"], ["train", "--help"]])
def test_help_and_version_answer_without_the_heavy_packages(arguments):
    done = run(*arguments, probe=f"print(sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)")
    assert done.returncode == 0 and done.stdout
    assert done.stderr.strip() == "[]"


def test_the_module_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "sigan", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, f"sigan {sigan.__version__}")


def test_importing_the_package_is_light_and_its_names_are_there():
    code = f"import sys, sigan; sigan.NoFaceError; print(sorted(set({HEAVY}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    assert {"Stylizer", "align", "StyleTrainer"} <= set(dir(sigan))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sigan.nonsense  # noqa: B018


def test_the_version_is_the_packages():
    text = (os.path.dirname(os.path.dirname(sigan.__file__)) + "/pyproject.toml")
    with open(text) as file:
        assert f'version = "{sigan.__version__}"' in file.read()


@pytest.mark.parametrize("name", sorted(app.COMMANDS))
def test_every_command_is_there(name, capsys):
    shown = {"evaluate": "eval"}.get(name, name)
    assert app.main([shown, "--help"]) == 0
    assert f"sigan {shown}" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "said", "hint"), [
    (["stylze"], "stylize", "sigan --help"),
    (["stylize", "a"], "OUT", "sigan stylize --help"),
    (["stylize", "a", "b"], "--style", "sigan stylize --help"),
    (["--nonsense"], "--nonsense", "sigan --help"),
    (["stylize", "--style", "x", "-dash.png", "out"], "-d", "sigan stylize --help`; a path that begins with a dash"),
    (["stylize", "--strength", "much", "--style", "x", "a", "b"], "--strength", "sigan stylize --help"),
])
def test_usage_errors_exit_2_and_say_where_help_is(arguments, said, hint, capsys):
    assert app.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and said in err and hint in err.splitlines()[-1]


def failing(error: BaseException) -> typer.Typer:
    """A command line whose command `fail` raises `error`."""
    door = typer.Typer()
    door.callback()(lambda: None)

    @door.command()
    def fail() -> None:
        raise error

    return door


@pytest.mark.parametrize(("error", "code"), [
    (ConfigError("m", "h"), 2), (UnknownStyleError("m", "h"), 2), (OutputError("m", "h"), 2),
    (InputError("m", "h"), 3), (UnreadableImageError("m", "h"), 3), (NoFaceError("m", "h"), 4),
    (WeightsError("m", "h"), 5), (OfflineError("m", "h"), 6), (PackError("m", "h"), 7),
])
def test_each_error_has_its_exit_code_and_no_trace(error, code, monkeypatch, capsys):
    monkeypatch.setattr(app, "build", lambda wanted="": failing(error))
    assert app.main(["fail"]) == code
    assert capsys.readouterr() == ("", "error: m\nhint: h\n")


def test_debug_may_stand_anywhere_and_shows_the_trace(monkeypatch, capsys):
    monkeypatch.setattr(app, "build", lambda wanted="": failing(ConfigError("m", "h")))
    for arguments in (["--debug", "fail"], ["fail", "--debug"]):
        assert app.main(arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("Traceback") and err.endswith("error: m\nhint: h\n")


def test_the_unexpected_exits_1_and_points_to_debug(monkeypatch, capsys):
    monkeypatch.setattr(app, "build", lambda wanted="": failing(ZeroDivisionError("by nought")))
    assert app.main(["fail"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: by nought" in err and "--debug" in err and "Traceback" not in err


def test_what_the_system_refuses_is_no_fault_of_sigans(monkeypatch, capsys):
    refused = PermissionError(errno.EACCES, "Permission denied", "/home/me/.bashrc")
    monkeypatch.setattr(app, "build", lambda wanted="": failing(refused))
    assert app.main(["fail"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: /home/me/.bashrc: Permission denied\nhint: check who may write there")
    assert "fault" not in err


def test_an_interrupt_exits_130(monkeypatch, capsys):
    monkeypatch.setattr(app, "build", lambda wanted="": failing(KeyboardInterrupt()))
    assert app.main(["fail"]) == 130
    assert capsys.readouterr() == ("", "error: interrupted\n")


def test_a_reader_that_leaves_makes_no_noise():
    done = subprocess.run(f'"{sys.executable}" -m sigan --help | head -c 1', shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


# ---- commands that plugins bring

def function_plugin(count: int) -> None:
    print("counted", count)  # noqa: T201
    raise typer.Exit(9)


typer_plugin = typer.Typer()
typer_plugin.command("one")(lambda: print("one"))  # noqa: T201
typer_plugin.command("two")(lambda: print("two"))  # noqa: T201


@pytest.fixture
def commands(monkeypatch):
    """Plugins that bring a function, a typer app, a module that is not there, and a name that is taken."""
    from importlib.metadata import EntryPoint

    from sigan import plugins

    values = {"count": f"{__name__}:function_plugin", "numbers": f"{__name__}:typer_plugin",
              "broken": "no_such_module:app", "stylize": f"{__name__}:function_plugin"}
    points = {name: EntryPoint(name, value, "sigan.commands") for name, value in values.items()}
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr(plugins, "entries", lambda group: {
        name: plugins.Plugin(group, name, "package", "1", point.value, True, point) for name, point in points.items()})


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["count", "3"], 9, "counted 3"), (["numbers", "two"], 0, "two"), (["numbers", "--help"], 0, "sigan numbers"),
    (["--help"], 0, "From the package package."), (["stylize", "--help"], 0, "--keep-color"),
])
def test_plugins_bring_commands_and_take_no_builtins_place(commands, arguments, code, said, capsys):
    assert app.main(arguments) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "said"), [
    (["broken"], "'broken' of package package 1 does not load"), (["count", "many"], "valid integer"),
    (["numbers", "three"], "No such command 'three'"),
])
def test_faults_in_a_plugins_command_are_errors_like_others(commands, arguments, said, capsys):
    assert app.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and "hint: " in err and "Traceback" not in err


# ---- rendering

def test_data_is_one_json_line_on_stdout(capsys, tmp_path):
    value = {"path": tmp_path, "nan": float("nan"), "array": np.arange(2), "error": Failure("T", "m"), "é": (1, None)}
    render.data(value)
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    assert json.loads(out) == {"path": str(tmp_path), "nan": None, "array": [0, 1], "é": [1, None],
                               "error": {"type": "T", "message": "m", "hint": ""}}


def test_tables_and_notes_go_to_stderr_in_columns(capsys):
    render.table("t", ["name", "n"], [["long name", 1], ["b", None]])
    render.note("seen")
    render.note("unseen", quiet=True)
    assert capsys.readouterr() == ("", "t\nname       n\nlong name  1\nb\nseen\n")


def test_on_a_terminal_rich_draws(capsys, monkeypatch):
    monkeypatch.setattr(render, "interactive", lambda: True)
    render.table("t", ["name"], [["[bold]as it is[/bold]"]])
    assert list(render.progress(iter("abc"), 3, "[x]")) == list("abc")
    out, err = capsys.readouterr()
    assert out == "" and "[bold]as it is[/bold]" in err


# ---- batches

OK = ItemDone("a.jpg", ("out/a.png",), "ok", 1, 0.25, notes=("a note",))
NO_FACE = ItemDone("b.jpg", (), "failed", 0, 0.5, Failure("NoFaceError", "b.jpg: no face", "--aligned"))
BROKEN = ItemDone("c.jpg", (), "failed", 0, 0.5, Failure("UnreadableImageError", "c.jpg: broken"))


@pytest.mark.parametrize(("records", "code"), [
    ([OK], 0), ([OK, NO_FACE], 3), ([NO_FACE], 4), ([NO_FACE, NO_FACE], 4), ([NO_FACE, BROKEN], 3), ([BROKEN], 3),
])
def test_the_exit_code_of_a_batch(records, code):
    assert batch.show(records, len(records), "stylize", json=False, quiet=True) == code


def test_a_batch_prints_objects_then_the_summary(capsys):
    batch.show(iter([OK, NO_FACE]), 2, "stylize", json=True, quiet=False)
    out, err = capsys.readouterr()
    first, second, last = map(json.loads, out.splitlines())
    assert first == {"source": "a.jpg", "output": "out/a.png", "status": "ok", "faces": 1, "seconds": 0.25,
                     "error": None, "notes": ["a note"]}
    assert second["error"] == {"type": "NoFaceError", "message": "b.jpg: no face", "hint": "--aligned"}
    assert {**last["summary"], "seconds": 0} == {"ok": 1, "failed": 1, "skipped": 0, "seconds": 0}
    assert "error: b.jpg: no face\nhint: --aligned\n" in err and "a.jpg: a note" in err and "1 ok, 1 failed" in err


def test_quiet_leaves_errors_only(capsys):
    batch.show([OK, NO_FACE], 2, "stylize", json=False, quiet=True)
    assert capsys.readouterr() == ("", "error: b.jpg: no face\nhint: --aligned\n")


@pytest.mark.parametrize("command", sorted({"eval" if name == "evaluate" else name for name in app.COMMANDS}))
def test_a_command_built_alone_is_the_one_of_the_whole(command):
    whole, alone = typer.main.get_command(app.build()), typer.main.get_command(app.build(command))
    assert list(alone.commands) == [command]
    names = [param.name for param in whole.commands[command].params]
    assert [param.name for param in alone.commands[command].params] == names and whole.commands[command].help
