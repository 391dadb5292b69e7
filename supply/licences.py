"""`python -m supply.licences`: writes docs/third-party.md, the licences of what sigan needs, from what is installed."""

from __future__ import annotations

from supply import dependencies

TARGET = dependencies.ROOT / "docs" / "third-party.md"
HEAD = """# Third-party licences

Written by `make licences` from the metadata of the installed packages; a test holds it to what pyproject.toml asks for
and to what that brings. None of it is part of sigan's wheel: pip installs it, under its own terms. Weights are on
[a page of their own](weights.md); LPIPS' linear heads, which the wheel does hold, are in the [notice](../NOTICE).
"""
ACCELERATORS = """
A build of PyTorch for CUDA brings NVIDIA's libraries (`nvidia-*`, `cuda-*`; NVIDIA's own licences, which forbid
changing them) and `triton` (MIT). A build for the CPU brings none of them.
"""


def page() -> str:
    """The whole page."""
    program = dependencies.closure(dependencies.declared())
    direct = set(dependencies.names(dependencies.declared()))
    asked = {name: package for name, package in program.items() if name in direct}
    lines = [HEAD, "## What sigan asks for\n", *_table(asked), "\n## What these bring\n",
             *_table({name: package for name, package in program.items() if name not in direct}), ACCELERATORS,
             "Only on Python 3.10: `tomli` (MIT).\n", "## To test it, and to build its pages\n"]
    tools = {name: dependencies.installed(name) for extra in ("docs", "test")
             for name in dependencies.names(dependencies.declared(extra))}
    return "\n".join([*lines, *_table(dict(sorted(tools.items())))]) + "\n"


def _table(packages: dict[str, dependencies.Package]) -> list[str]:
    rows = [f"| {f'[`{name}`]({package.home})' if package.home else f'`{name}`'} | {package.licence} |"
            for name, package in packages.items()]
    return ["| package | licence |", "|---|---|", *rows]


def main() -> None:
    TARGET.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
