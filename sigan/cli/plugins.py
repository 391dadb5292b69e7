"""`sigan plugins`: what is installed, what it adds, what failed and why."""

from __future__ import annotations

import typer

from sigan import plugins as registry
from sigan.cli import options, render


def register(app: typer.Typer) -> None:
    app.command("plugins")(plugins)


def plugins(json: options.Json = False) -> None:
    """Shows installed plugins, what each adds, and what failed and why."""
    from sigan import styles

    found = registry.found()
    problems = list(dict.fromkeys([*registry.problems(), *styles.problems()]))
    failed = {(problem.group, problem.name, problem.package) for problem in problems}

    def status(plugin: registry.Plugin) -> str:
        if not plugin.enabled:
            return "off"
        return "failed" if (plugin.group, plugin.name, plugin.package) in failed else "ok"

    if json:
        keys = ("group", "name", "package", "version", "value")
        render.data({"plugins": [{**{key: getattr(plugin, key) for key in keys}, "status": status(plugin)}
                                 for plugin in found],
                     "problems": problems})
        return
    render.table("plugins", ["adds", "name", "package", "version", "status"],
                 [[plugin.group, plugin.name, plugin.package, plugin.version, status(plugin)] for plugin in found])
    for problem in problems:
        render.note(f"skipped: {problem.message}")
        render.note(f"  fix: {problem.hint}")
