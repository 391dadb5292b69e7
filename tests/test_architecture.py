"""The floors hold: imports go down only, heavy packages stay where they belong, files stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sigan"
MAX_LINES = 400

FLOORS = (
    ("errors", "events"),
    ("nets",),
    ("images", "pictures", "metadata", "framing", "runtime", "plugins", "checkup", "downloads", "weights", "manifest",
     "pickles", "archives", "tensors", "checkpoints", "convert"),
    ("bases", "alignment", "cropping", "detection", "mixing", "losses", "stream", "sources", "destinations", "ledger",
     "locks", "workers", "figures", "matting", "pasting", "devices", "references", "complexion"),
    ("inversion", "pivotal", "deltas", "packs", "styles", "identity", "features", "metrics", "distributions",
     "appearance", "captured", "finetuning", "sitters", "trials", "states", "tradeoff", "charts", "persons"),
    ("training", "preflight", "stylization", "evaluation", "report", "study", "intake", "publishing", "gallery"),
    ("cli", "__main__"),
)
FLOOR_OF = {noun: floor for floor, nouns in enumerate(FLOORS) for noun in nouns}
# The same floor is open to itself below the verbs: packs may not need inversion, but plugins may need runtime.
CLOSED_FLOORS = {FLOOR_OF["training"]}
ALLOWED_SIDEWAYS = {("report", "evaluation")}
# Third-party packages, and the nouns that may name them. What is not here may be imported by any floor above `nets`.
ONLY_IN = {
    "rich": {"cli.render"},
    "typer": {"cli"},
    "PIL": {"images", "charts", "pictures", "metadata", "alignment", "cropping", "matting", "pasting", "stylization",
            "identity", "report", "study", "cli"},
    "dlib": {"detection", "identity", "cli.doctor"},
    "requests": {"downloads"},
    "pickle": set(),  # checkpoints.py reads pickles; nothing runs them
}
NETS_MAY_IMPORT = {"torch", "math", "dataclasses", "collections", "typing", "functools", "itertools", "__future__"}
LAZY = ("torch", "torchvision", "numpy", "PIL", "dlib", "lpips", "rich.progress", "face_recognition_models")


def modules() -> dict[str, Path]:
    """Dotted name within the package -> file; a package is named by its folder."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name or "__init__"] = path
    return found


def imports(source: str, name: str = "", is_package: bool = False) -> set[str]:
    """Every module that `source` imports anywhere, absolute and dotted; `name` (in `sigan`) resolves relative ones.

    `from sigan import packs` counts as `sigan.packs`. Imports that only type checkers run are left out.
    """
    tree = ast.parse(source)
    typing_only = {node for block in ast.walk(tree) if isinstance(block, ast.If)
                   and "TYPE_CHECKING" in ast.dump(block.test) for node in ast.walk(block)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = ["sigan", *[part for part in name.split(".") if part]]
                up = here[: len(here) - node.level + (1 if is_package else 0)]
                base = ".".join([*up, *([base] if base else [])])
            found.update(f"{base}.{alias.name}" if base.startswith("sigan") else base for alias in node.names)
    return found


@cache
def imports_of(name: str) -> set[str]:
    path = modules()[name]
    package_name = "" if name == "__init__" else name
    return imports(path.read_text(encoding="utf-8"), package_name, path.name == "__init__.py")


def noun(module: str) -> str:
    return module.split(".")[0]


def nouns_imported(name: str) -> set[str]:
    return {target.split(".")[1] for target in imports_of(name)
            if target.startswith("sigan.") and target.split(".")[1] in FLOOR_OF}


def upward(name: str, targets: set[str]) -> list[str]:
    """The imports of module `name` that do not go down."""
    own = FLOOR_OF[noun(name)]
    return sorted(target for target in targets if target != noun(name) and (
        FLOOR_OF[target] > own
        or FLOOR_OF[target] == own and own in CLOSED_FLOORS and (noun(name), target) not in ALLOWED_SIDEWAYS))


def test_every_module_has_a_floor():
    homeless = {noun(name) for name in modules()} - set(FLOOR_OF) - {"__init__", "assets"}
    assert not homeless, f"put these on a floor, here and in docs/contributing.md: {sorted(homeless)}"


@pytest.mark.parametrize("name", sorted(set(modules()) - {"__init__"}))
def test_imports_go_down_only(name):
    assert upward(name, nouns_imported(name)) == []


@pytest.mark.parametrize("name", sorted(set(modules()) - {"__init__"}))
def test_no_circle_within_a_floor(name):
    """Neighbours on one floor may use each other, in one direction only."""
    def near(start: str) -> set[str]:
        return {found for other in modules() if noun(other) == start for found in nouns_imported(other)} - {start}

    reached, todo = set(), near(noun(name))
    while todo:
        reached |= todo
        todo = {further for other in todo for further in near(other)} - reached
    assert noun(name) not in reached


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_heavy_packages_stay_at_home(package):
    def allowed(name: str) -> bool:
        return any(name == home or name.startswith(home + ".") for home in ONLY_IN[package])

    strays = [name for name in modules() if not allowed(name)
              and any(target == package or target.startswith(package + ".") for target in imports_of(name))]
    assert strays == []


@pytest.mark.parametrize("name", [name for name in sorted(modules()) if noun(name) == "nets"])
def test_a_net_knows_tensors_only(name):
    foreign = {target for target in imports_of(name) if not target.startswith(("sigan.nets", "sigan.errors"))
               and target.split(".")[0] not in NETS_MAY_IMPORT}
    assert foreign == set()


@pytest.mark.parametrize("path", sorted(p for folder in ("sigan", "plugins", "tests", "benchmarks", "examples", "docs",
                                                         "supply")
                                        for p in (ROOT / folder).rglob("*.py") if "build" not in p.parts),
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines < MAX_LINES, f"{lines} lines: find the second noun in it"


def test_plugins_use_public_names_only():
    private = [f"{path.relative_to(ROOT)}: {target}" for path in sorted((ROOT / "plugins").rglob("*.py"))
               for target in imports(path.read_text(encoding="utf-8"))
               if target.startswith("sigan.") and any(part.startswith("_") for part in target.split("."))]
    assert private == []


@pytest.mark.parametrize("code", ["import sigan", "import sigan.cli.app"])
def test_the_door_is_light(code):
    """A fresh interpreter, told to import the door, has loaded none of the heavy packages."""
    probe = f"{code}; import sys; print(sorted(set({LAZY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_reader_of_imports_reads_all_forms():
    """The floors mean something only if every way to write an import is seen."""
    source = ("import sigan.packs\nfrom sigan import images\nfrom sigan.cli import render\nfrom . import bases\n"
              "from .stream import Item\ndef f():\n    import rich.table\n"
              "if TYPE_CHECKING:\n    from sigan import report\n")
    assert imports(source, "mixing") == {"sigan.packs", "sigan.images", "sigan.cli.render", "sigan.bases",
                                         "sigan.stream.Item", "rich.table"}
    assert upward("mixing", {"errors", "bases", "packs", "cli"}) == ["cli", "packs"]
    assert upward("report", {"evaluation", "training"}) == ["training"]
