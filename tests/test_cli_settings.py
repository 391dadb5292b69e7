"""`--config`: its values reach the commands, behind the line and the environment; what it misspells is told."""

from __future__ import annotations

import pytest
import typer

from sigan.cli import app, settings
from sigan.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def file(text: str):
        path = tmp_path / "sigan.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return file


@pytest.fixture
def door(monkeypatch):
    """A command line with `draw` and `models sample`, and what they were last called with."""
    called: dict = {}

    def build(wanted: str = "") -> typer.Typer:
        root = typer.Typer(context_settings={"auto_envvar_prefix": app.PREFIX})
        root.callback()(lambda: None)
        models = typer.Typer()

        @root.command()
        def draw(source: str, style: str = typer.Option(...), seed: int = typer.Option(0, envvar="SIGAN_SEED"),
                 keep_color: bool = typer.Option(False, "--keep-color")) -> None:
            called.update(source=source, style=style, seed=seed, keep_color=keep_color)

        @models.command()
        def sample(count: int = typer.Option(8, "-n", "--count"), seed: int = typer.Option(0)) -> None:
            called.update(count=count, seed=seed)

        @models.command("list")
        def list_() -> None:
            called.update(listed=True)

        root.add_typer(models, name="models")
        return root

    monkeypatch.setattr(app, "build", build)
    return called


def test_a_file_gives_what_line_and_environment_do_not(door, write, monkeypatch):
    path = write('seed = 3\n[draw]\nstyle = "ink"\nkeep-color = true\n')
    assert app.main(["draw", "a.png", "--config", str(path)]) == 0
    assert door == {"source": "a.png", "style": "ink", "seed": 3, "keep_color": True}
    monkeypatch.setenv("SIGAN_SEED", "4")
    monkeypatch.setenv("SIGAN_DRAW_STYLE", "oil")
    assert app.main(["--config", str(path), "draw", "a.png"]) == 0
    assert (door["seed"], door["style"]) == (4, "oil")
    assert app.main([f"--config={path}", "draw", "a.png", "--seed", "5", "--style", "pencil"]) == 0
    assert (door["seed"], door["style"]) == (5, "pencil")


def test_the_environment_may_name_the_file_and_the_line_another(door, write, monkeypatch, tmp_path):
    monkeypatch.setenv("SIGAN_CONFIG", str(write("[models]\nseed = 1\n[models.sample]\ncount = 2\n")))
    assert app.main(["models", "sample"]) == 0
    assert door == {"count": 2, "seed": 1}
    other = tmp_path / "other.toml"
    other.write_text("seed = 9\n", encoding="utf-8")
    assert app.main(["models", "sample", "--config", str(other)]) == 0
    assert door == {"count": 8, "seed": 9}


def test_underscores_do_as_dashes_do(door, write):
    assert app.main(["--config", str(write('[draw]\nstyle = "ink"\nkeep_color = true\n')), "draw", "a.png"]) == 0
    assert door["keep_color"] is True


@pytest.mark.parametrize(("text", "said", "hint"), [
    ("sede = 3\n", "`sigan` has no option 'sede'", "seed"),
    ("[draw]\nstile = 'ink'\n", "`sigan draw` has no option 'stile'", "style"),
    ("[darw]\nstyle = 'ink'\n", "`sigan` has no command 'darw'", "draw"),
    ("[models.smaple]\ncount = 3\n", "`sigan models` has no command 'smaple'", "sample"),
    ("[models]\nkeep-color = true\n", "`sigan models` has no option 'keep-color'", "--help"),
    ("[draw]\nsource = 'a.png'\n", "`sigan draw` has no option 'source'", "--help"),
    ("[draw]\nkeep-color = 'yes'\n", "keep-color of `sigan draw` is 'yes'", "true or false"),
    ("seed = true\n", "seed of `sigan draw` is True", "a value"),
    ("[draw]\nseed = 'much'\n", "--seed", "--config file"),
    ("[draw\n", "is no TOML", "configuration.md"),
])
def test_what_a_file_misspells_is_told(door, write, text, said, hint, capsys):
    path = write(text)
    assert app.main(["draw", "a.png", "--style", "ink", "--config", str(path)]) == 2
    err = capsys.readouterr().err
    assert said in err and hint in err.splitlines()[-1] and "Traceback" not in err and door == {}


@pytest.mark.parametrize(("arguments", "said"), [
    (["draw", "--config"], "--config names no file"), (["--config=", "draw"], "--config names no file"),
    (["--config", "/no/such.toml", "draw"], "/no/such.toml cannot be read"),
])
def test_a_file_that_is_not_there(door, arguments, said, capsys):
    assert app.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_after_two_dashes_config_is_a_word_like_others(door):
    assert app.main(["draw", "--style", "ink", "--", "--config"]) == 0
    assert door["source"] == "--config"


def test_a_table_for_a_plugins_command_fits_it_when_it_is_loaded(write, monkeypatch):
    called = {}
    offer = typer.Typer()
    def one(count: int = typer.Option(1, "--count")) -> None:
        called.update(count=count)

    offer.command("one")(one)
    offer.command("two")(lambda: None)

    class Plugin:
        name, package = "extra", "package"
        load = staticmethod(lambda: offer)

    from sigan import plugins

    monkeypatch.setattr(plugins, "entries", lambda group: {"extra": Plugin})
    assert app.main(["extra", "one", "--config", str(write("[extra.one]\ncount = 7\n"))]) == 0
    assert called == {"count": 7}
    assert app.main(["extra", "one", "--config", str(write("[extra.one]\ncuont = 7\n"))]) == 2


@pytest.mark.parametrize("command", ["stylize", "train", "eval"])
def test_every_option_of_a_real_command_can_stand_in_a_file(command):
    """What `--help` shows is what a file may set: the names come from one place."""
    leaf = app.command_of(app.build(command)).commands[command]
    table = {key: param.is_flag or 1 for key, param in settings._options(leaf).items()}
    made = settings._Table({command: table}, {}, "f", "").fit(app.command_of(app.build(command)))[command]
    assert set(made) == {param.name for param in leaf.params if param.param_type_name == "option"}


def test_read_names_the_file(tmp_path):
    (tmp_path / "latin.toml").write_bytes("a = 'é'".encode("latin-1"))
    with pytest.raises(ConfigError, match="latin.toml is no TOML"):
        settings.read(tmp_path / "latin.toml")
