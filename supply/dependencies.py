"""The packages that sigan needs, directly and through others, with version, licence and home, as installed here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sigan.cli import settings

ROOT = Path(__file__).resolve().parent.parent
# What a build of torch for CUDA brings, and one for the CPU does not: told together, never walked.
ACCELERATORS = re.compile(r"(nvidia-|cuda-|triton$|pytorch-triton)")
LICENCE_NAMES = {  # what older metadata say, in the words of SPDX
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "Boost Software License": "BSL-1.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


@dataclass(frozen=True)
class Package:
    """One installed package: its licence as SPDX where the metadata allow it, and the packages it needs here."""

    name: str
    version: str
    licence: str
    home: str
    needs: tuple[str, ...] = ()


# Tools of the tests that need what cannot be installed beside every torch (torchvision), as their metadata have it.
ABSENT = {"torch-fidelity": Package("torch-fidelity", "", "Apache-2.0", "https://github.com/toshas/torch-fidelity")}


def declared(extra: str = "") -> list[Requirement]:
    """The requirements of pyproject.toml: the program's own, or those of an extra; for other Pythons too."""
    project = settings.read(ROOT / "pyproject.toml")["project"]
    told = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [Requirement(text) for text in told]


def closure(requirements: list[Requirement]) -> dict[str, Package]:
    """Every installed package that the requirements lead to, by name, sorted; what CUDA builds bring is left out."""
    found: dict[str, Package] = {}
    pending = [canonicalize_name(requirement.name) for requirement in requirements if _applies(requirement)]
    for name in pending:
        if name in found or ACCELERATORS.match(name):
            continue
        package = installed(name)
        found[name] = package
        pending += package.needs
    return dict(sorted(found.items()))


def installed(name: str) -> Package:
    """The package of that name. PackageNotFoundError when it is neither installed nor in ABSENT."""
    try:
        facts = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        if name in ABSENT:
            return ABSENT[name]
        raise
    needs = [Requirement(text) for text in metadata.requires(name) or ()]
    return Package(canonicalize_name(name), facts["Version"], licence_of(facts), _home(facts),
                   tuple(sorted({canonicalize_name(need.name) for need in needs if _applies(need)})))


def licence_of(facts: metadata.PackageMetadata) -> str:
    """The licence that a package's metadata state: expression, then short field, then classifiers."""
    if expression := facts["License-Expression"]:
        return expression
    stated = (facts["License"] or "").strip()
    classified = [text.rpartition(" :: ")[2] for text in facts.get_all("Classifier") or ()
                  if text.startswith("License ::") and text != "License :: OSI Approved"]
    if classified and stated not in LICENCE_NAMES.values():
        return " AND ".join(LICENCE_NAMES.get(name, name) for name in classified)
    if stated and len(stated) < 60 and "\n" not in stated:
        return LICENCE_NAMES.get(stated, stated)
    return "stated in its own text"


def _home(facts: metadata.PackageMetadata) -> str:
    links = dict(text.split(", ", 1) for text in facts.get_all("Project-URL") or () if ", " in text)
    named = {label.lower(): url for label, url in links.items()}
    labels = ("homepage", "home", "repository", "source", "source code", "code", "github")
    known = [named.get(label) for label in labels]
    return facts["Home-page"] or next(filter(None, [*known, *links.values()]), "")


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def names(requirements: list[Requirement]) -> Iterator[str]:
    for requirement in requirements:
        yield canonicalize_name(requirement.name)
