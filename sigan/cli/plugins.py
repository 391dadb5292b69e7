"""`sigan plugins`: what is installed, what it adds, what failed and why."""

from __future__ import annotations

from typing import Annotated

import typer

from sigan import plugins as registry
from sigan.cli import options, render


def register(app: typer.Typer) -> None:
    app.command("plugins")(plugins)


def plugins(
    check: Annotated[bool, typer.Option("--check/--no-check", help="Whether to try if each loads.")] = True,
    limit: Annotated[float, typer.Option("--limit", metavar="SECONDS", min=0.1, help="For each to load.")] = 30.0,
    json: options.Json = False,
) -> None:
    """Shows the plugins, what each adds, and what failed and why.

    They are loaded in another process, so that one that hangs or crashes is told and skipped.
    """
    from sigan import checkup, styles

    found, unreadable = registry.scan()
    told = [*checkup.problems(limit), *styles.problems()] if check else [*unreadable, *registry.shadowed(found)]
    problems = {(problem.group, problem.name, problem.package): problem for problem in reversed(told)}
    untried = "ok" if check else "not tried"

    def status(plugin: registry.Plugin) -> str:
        if not plugin.enabled:
            return "off"
        return "failed" if (plugin.group, plugin.name, plugin.package) in problems else untried

    if json:
        keys = ("group", "name", "package", "version", "value")
        render.data({"plugins": [{**{key: getattr(plugin, key) for key in keys}, "status": status(plugin)}
                                 for plugin in found],
                     "problems": list(reversed(problems.values()))})
        return
    render.table("plugins", ["adds", "name", "package", "version", "status"],
                 [[plugin.group, plugin.name, plugin.package, plugin.version, status(plugin)] for plugin in found])
    for problem in reversed(problems.values()):
        render.note(f"skipped: {problem.message}")
        render.note(f"  fix: {problem.hint}")
