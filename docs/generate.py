"""Writes docs/cli.md from the commands themselves; tests/test_docs.py holds the file to what this gives."""

from __future__ import annotations

import os
from pathlib import Path

TARGET = Path(__file__).resolve().parent / "cli.md"
HEAD = """# The command line

Written by `make docs` from the commands themselves. The last positional argument is the destination, as in `cp`.
Progress, tables and errors go to stderr, data to stdout. `--config FILE`, `--verbose` and `--debug` may stand anywhere:
[configuration](configuration.md) tells them, the variables of the environment, and completion in the shell.

| exit code | meaning |
|---|---|
| 0 | all done |
| 1 | unexpected |
| 2 | usage: an option, a name or a destination that cannot be used |
| 3 | some inputs failed |
| 4 | no face in any input |
| 5 | weights missing or corrupt |
| 6 | offline, and not cached |
| 7 | a pack that is invalid or belongs to another base |
| 130 | interrupted |
"""


def reference() -> str:
    """The whole page: every command with its arguments and options; commands of plugins are left out."""
    os.environ["SIGAN_PLUGINS"] = ""
    import typer

    from sigan.cli.app import build

    root = typer.main.get_command(build())
    return "\n".join([HEAD, *sections(root, "sigan")])


def sections(command, path: str) -> list[str]:
    """One section for a command, or one for each command of a group."""
    if getattr(command, "commands", None):
        return [text for name, child in sorted(command.commands.items()) for text in sections(child, f"{path} {name}")]
    shown = [param for param in command.params if "--help" not in param.opts]
    arguments = [param for param in shown if param.param_type_name == "argument"]
    options = [param for param in shown if param.param_type_name == "option" and not param.hidden]
    needed = [f"{param.opts[0]} {param.metavar or param.name.upper()}" for param in options if param.required]
    rest = ["[OPTIONS]"] if len(options) > len(needed) else []
    usage = " ".join([path, *needed, *(argument_usage(param) for param in arguments), *rest])
    lines = [f"## `{path}`\n", (command.help or "").strip() + "\n", f"    {usage}\n"]
    rows = [(argument_name(param), param.help or "") for param in arguments]
    rows += [(option_usage(param), param.help or "") for param in options]
    if rows:
        table = [f"| `{name}` | {text} |".replace("\n", " ") for name, text in rows]
        lines += ["\n".join(["| | |", "|---|---|", *table]) + "\n"]
    return lines


def argument_name(param) -> str:
    return (param.metavar or param.name).upper().strip("[].")


def argument_usage(param) -> str:
    name = argument_name(param) + ("..." if param.nargs == -1 else "")
    return name if param.required else f"[{name}]"


def option_usage(param) -> str:
    """The names of an option, its metavar, and its default where it has one worth saying."""
    names = ", ".join([*param.opts, *param.secondary_opts])
    if param.is_flag:
        return names
    said = f" ({param.default})" if isinstance(param.default, (int, float, str)) and param.default != "" else ""
    return (f"{names} {param.metavar or param.name.upper()}" + said).replace("|", "\\|")


def main() -> None:
    TARGET.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
