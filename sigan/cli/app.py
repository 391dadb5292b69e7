"""The door: builds the command line, and turns errors into text and exit codes. Importing it imports no torch.

`--config`, `--verbose` and `--debug` are taken from the line before any command sees it, so they may stand anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any, cast

import typer

from sigan import plugins
from sigan.cli import render
from sigan.errors import ConfigError, SiganError

PREFIX = "SIGAN"  # of the environment's variables: SIGAN_STYLIZE_STRENGTH is `sigan stylize --strength`
EVERYWHERE = "--config FILE, --verbose and --debug may stand anywhere: see `sigan --help`."
COMMANDS = ("align", "invert", "train", "stylize", "evaluate", "study", "styles", "plugins", "bases", "doctor")
INTERRUPTED = 130
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)  # the system's no


def build(wanted: str = "") -> typer.Typer:
    """The command line with every command registered, each by its own module's `register(app)`.

    wanted: the command about to run; when it is a built-in, the others are left out, and no plugin is looked for.
    """
    app = typer.Typer(name="sigan", rich_markup_mode=None, pretty_exceptions_enable=False,
                      context_settings={"auto_envvar_prefix": PREFIX})
    app.callback(invoke_without_command=True)(root)
    known = {"eval": "evaluate"}.get(wanted, wanted)
    for name in [known] if known in COMMANDS else COMMANDS:
        import_module(f"sigan.cli.{name}").register(app)
    if known in COMMANDS:
        return app
    own = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    for name, plugin in plugins.entries("sigan.commands").items():
        if name in own:
            continue  # no plugin takes a built-in's place
        app.command(name, help=f"From the package {plugin.package}.", add_help_option=False,
                    context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(_passer(plugin))
    return app


def command_of(app: typer.Typer) -> Any:
    """The click command of `app`; its help names the environment's variables that several commands share, no others."""
    command = typer.main.get_command(app)
    pending: list[Any] = [command]
    for one in pending:
        pending += getattr(one, "commands", {}).values()
        one.epilog = EVERYWHERE if one is not command else None
        for param in one.params:
            param.show_envvar = bool(param.envvar)
    return command


def _passer(plugin: plugins.Plugin) -> Callable[[typer.Context], None]:
    """A command that loads the plugin's own when it is called, so that no plugin slows or breaks `--help`."""
    def run(ctx: typer.Context) -> None:
        offer: Any = plugin.load()
        if not isinstance(offer, typer.Typer):
            function, offer = offer, typer.Typer(add_completion=False, rich_markup_mode=None)
            offer.command()(function)
        command, table = typer.main.get_command(offer), cast(Any, ctx.default_map)
        code = command.main(args=ctx.args, prog_name=f"sigan {plugin.name}", standalone_mode=False,
                            default_map=table.fit(command) if table else None)
        raise typer.Exit(code if isinstance(code, int) else 0)

    return run


def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", allow_from_autoenv=False)] = False,
    config: Annotated[str, typer.Option("--config", metavar="FILE", envvar="SIGAN_CONFIG", help="Options from a TOML "
                                        "file; the command line and SIGAN_* go before it.")] = "",
    verbose: Annotated[bool, typer.Option("--verbose", allow_from_autoenv=False, help="Also say versions, where "
                                          "options come from, each step with its time.")] = False,
    debug: Annotated[bool, typer.Option("--debug", allow_from_autoenv=False,
                                        help="Show where an error comes from.")] = False,
) -> None:
    """Portraits in the style of a few references: align, invert, train, stylize, evaluate.

    --config, --verbose and --debug may stand anywhere on the line.
    """
    if version:
        from sigan import __version__

        render.out(f"sigan {__version__}")
        raise typer.Exit()
    if ctx.invoked_subcommand is None:
        render.out(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code after running the command line given (default: this process's own)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug, arguments = _take_flag("--debug", arguments)
    try:
        if f"_{PREFIX}_COMPLETE" in os.environ:
            return _complete()
        return _run(arguments)
    except BrokenPipeError:  # the reader of stdout left (`| head`): nothing to say, and nowhere to say it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        render.error("interrupted")
        return INTERRUPTED
    except Exception as error:
        return report(error, debug)


def _run(arguments: list[str]) -> int:
    verbose, arguments = _take_flag("--verbose", arguments)
    config, arguments = _take_config(arguments)
    command = command_of(build("" if config else "".join(arguments[:1])))
    defaults: dict[str, Any] = {}
    told: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if config:
        from sigan.cli import settings

        defaults = settings.defaults(config, command)
    if verbose:
        from sigan.cli import verbosity

        told = verbosity.told(command, config)
    with told:
        code = command.main(args=arguments, prog_name="sigan", standalone_mode=False, default_map=defaults)
    if code == INTERRUPTED:  # newer typers take the interrupt themselves, and say nothing
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _complete() -> int:
    """Answers a shell that completes a line. Whatever fails, nothing is said into the line that is being typed."""
    words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "").split()
    try:
        command_of(build(words[1] if len(words) > 2 else "")).main(args=[], prog_name="sigan", standalone_mode=False)
    except Exception:
        return 1
    return 0


def report(error: Exception, debug: bool = False) -> int:
    """Says on stderr what happened and what to do; gives the exit code of the contract."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, SiganError):
        render.error(error.message, error.hint)
        return error.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # typer's own usage errors, any version
        ctx = getattr(error, "ctx", None)
        hint = f"see `{ctx.command_path} --help`" if ctx else "see `sigan --help`"
        if len(getattr(error, "option_name", "") or "") == 2:  # no option of sigan's is one dash and a letter
            hint += "; a path that begins with a dash: write ./ before it"
        name = getattr(getattr(error, "param", None), "name", None)
        source = ctx.get_parameter_source(name) if ctx and name else None
        render.error(error.format_message(), f"the value is the --config file's; {hint}"
                     if source and source.name == "DEFAULT_MAP" else hint)
        return int(error.exit_code)
    if isinstance(error, OSError) and error.errno in REFUSED and error.filename:
        render.error(f"{error.filename}: {error.strerror}",
                     "check who may write there, and the room on that disk; --debug shows where it happened")
        return ConfigError.exit_code
    hint = "this is a fault of sigan's; --debug shows where it happened"
    render.error(f"unexpected {type(error).__name__}: {error}", "" if debug else hint)
    return 1


def _take_flag(flag: str, arguments: list[str]) -> tuple[bool, list[str]]:
    """Whether `flag` stands before a `--`, and the line without it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = [argument for argument in arguments[:end] if argument != flag]
    return len(head) < end, head + arguments[end:]


def _take_config(arguments: list[str]) -> tuple[str, list[str]]:
    """The file that `--config` names (the last, if several do), else SIGAN_CONFIG; and the line without it."""
    file, words = os.environ.get("SIGAN_CONFIG", ""), iter(arguments)
    rest: list[str] = []
    for word in words:
        if word == "--":
            return file, [*rest, word, *words]
        name, equals, value = word.partition("=")
        if name != "--config":
            rest.append(word)
            continue
        file = value if equals else next(words, "")
        if not file:
            raise ConfigError("--config names no file", "write --config FILE.toml")
    return file, rest
