"""A style as a Python package: the files that `pip` builds, installs and takes away again."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from sigan.errors import ConfigError
from sigan.manifest import PackManifest
from sigan.styles import NAME, SUFFIX

# The licences that a pyproject may name (https://spdx.org/licenses); any other is told in the file LICENSE alone.
SPDX = ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "MIT", "Apache-2.0")

PYPROJECT = '''\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{project}"
version = "0.1.0"
description = "The style {name} for sigan"
readme = "README.md"
requires-python = ">=3.10"
{licence}license-files = ["LICENSE"]
dependencies = ["sigan>=0.1"]

# The name on the left is what `sigan stylize --style` takes; {name}{suffix} lies beside the module.
[project.entry-points."sigan.styles"]
"{name}" = "{module}:PATH"

[tool.setuptools]
packages = ["{module}"]

[tool.setuptools.package-data]
{module} = ["*{suffix}"]
'''

MODULE = '''\
"""The style pack {name}; the entry point in pyproject.toml names this path."""

from pathlib import Path

PATH = Path(__file__).with_name("{name}{suffix}")
'''

README = '''\
# {project}

The style `{name}` for sigan, as a package.

    pip install .
    sigan stylize --style {name} photo.jpg portraits/

| | |
|---|---|
{rows}

`sigan styles show {name}` tells the rest, and `pip uninstall {project}` takes all of it away.
'''

LICENSE = '''\
The style pack {name}{suffix}:

    {licence}

It was tuned from the face model {base}, and learned from references. Their terms:

    {base}: {base_licence}
    references: {references_licence}
'''


def write_package(pack: str | Path, folder: str | Path, name: str | None = None) -> list[Path]:
    """The files of a package with this pack, written to a folder that is new or empty: `pip install FOLDER` works.

    name: of the style; its own by default. ConfigError when the folder is in use or the name can be no style's,
    PackError when the file is no pack, OutputError when the files cannot be written.
    """
    from sigan import images, packs

    folder, manifest = Path(folder), packs.StylePack.load(pack).manifest
    name = name or manifest.name
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot name a style", "letters, digits, '.', '_' and '-': use --name")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is in use", "give a folder that does not exist or is empty")
    module = module_name(name)
    contents = {path: text.encode() for path, text in package_texts(manifest, name).items()}
    contents[f"{module}/{name}{SUFFIX}"] = Path(pack).read_bytes()
    for path, content in contents.items():
        images.atomic_write(folder / path, content)
    return [folder / path for path in contents]


def package_texts(manifest: PackManifest, name: str) -> dict[str, str]:
    """The package's files by path, but for the pack."""
    facts = {"name": name, "suffix": SUFFIX, "module": module_name(name), "project": project_name(name)}
    told = {"licence": manifest.licence, "author": manifest.author, "base": manifest.base,
            "recipe": manifest.recipe, "references": manifest.references,
            "references' licence": manifest.references_licence or "not declared"}
    rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in told.items() if value != "")
    licence = f'license = "{manifest.licence}"\n' if manifest.licence in SPDX else ""
    return {
        "pyproject.toml": PYPROJECT.format(**facts, licence=licence),
        "README.md": README.format(**facts, rows=rows),
        "LICENSE": LICENSE.format(name=name, suffix=SUFFIX, licence=manifest.licence or "not stated",
                                  base=manifest.base, base_licence=manifest.base_licence or "not stated",
                                  references_licence=manifest.references_licence or "not declared"),
        f"{facts['module']}/__init__.py": MODULE.format(**facts),
    }


def project_name(name: str) -> str:
    """What pip calls the package of a style: a PEP 503 name."""
    return f"sigan-style-{re.sub(r'[-_.]+', '-', name).strip('-').lower()}"


def module_name(name: str) -> str:
    return project_name(name).replace("-", "_")


def _cell(value: object) -> str:
    """A value as Markdown that says what it holds and nothing else, whoever wrote it."""
    return re.sub(r"([\\`*_\[\]|#!~])", r"\\\1", escape(str(value), quote=False))
