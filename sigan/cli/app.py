"""The door: builds the command line, and turns errors into text and exit codes. Importing it imports no torch."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from sigan import plugins
from sigan.cli import render
from sigan.errors import SiganError

COMMANDS = ("align", "invert", "train", "stylize", "evaluate", "study", "styles", "plugins", "bases", "doctor")
INTERRUPTED = 130


def build(wanted: str = "") -> typer.Typer:
    """The command line with every command registered, each by its own module's `register(app)`.

    wanted: the command about to run; when it is a built-in, the others are left out, and no plugin is looked for.
    """
    app = typer.Typer(name="sigan", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(root)
    known = {"eval": "evaluate"}.get(wanted, wanted)
    for name in [known] if known in COMMANDS else COMMANDS:
        import_module(f"sigan.cli.{name}").register(app)
    if known in COMMANDS:
        return app
    own = {command.name for command in (*app.registered_commands, *app.registered_groups)}
    for name, plugin in plugins.entries("sigan.commands").items():
        if name in own:
            continue  # no plugin takes a built-in's place
        app.command(name, help=f"From the package {plugin.package}.", add_help_option=False,
                    context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(_passer(plugin))
    return app


def _passer(plugin: plugins.Plugin):
    """A command that loads the plugin's own when it is called, so that no plugin slows or breaks `--help`."""
    def run(ctx: typer.Context) -> None:
        offer = plugin.load()
        if not isinstance(offer, typer.Typer):
            function, offer = offer, typer.Typer(add_completion=False, rich_markup_mode=None)
            offer.command()(function)
        code = typer.main.get_command(offer).main(args=ctx.args, prog_name=f"sigan {plugin.name}",
                                                  standalone_mode=False)
        raise typer.Exit(code if isinstance(code, int) else 0)

    return run


def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from; may stand anywhere.")] = False,
) -> None:
    """Portraits in the style of a few references: align, invert, train, stylize, evaluate."""
    if version:
        from sigan import __version__

        render.out(f"sigan {__version__}")
        raise typer.Exit()
    if ctx.invoked_subcommand is None:
        render.out(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code after running the command line given (default: this process's own)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug, arguments = _take_debug(arguments)
    try:
        command = typer.main.get_command(build(*arguments[:1]))
        code = command.main(args=arguments, prog_name="sigan", standalone_mode=False)
        if code == INTERRUPTED:  # newer typers take the interrupt themselves, and say nothing
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # the reader of stdout left (`| head`): nothing to say, and nowhere to say it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        render.error("interrupted")
        return INTERRUPTED
    except Exception as error:
        return report(error, debug)


def report(error: Exception, debug: bool = False) -> int:
    """Says on stderr what happened and what to do; gives the exit code of the contract."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, SiganError):
        render.error(error.message, error.hint)
        return error.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # typer's own usage errors, any version
        ctx = getattr(error, "ctx", None)
        render.error(error.format_message(), f"see `{ctx.command_path} --help`" if ctx else "see `sigan --help`")
        return error.exit_code
    hint = "this is a fault of sigan's; --debug shows where it happened"
    render.error(f"unexpected {type(error).__name__}: {error}", "" if debug else hint)
    return 1


def _take_debug(arguments: list[str]) -> tuple[bool, list[str]]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = [argument for argument in arguments[:end] if argument != "--debug"]
    return len(head) < end, head + arguments[end:]
