"""What a container is made of: rules that a linter would hold, and that every copied file is there and not ignored.

The image itself is built where an engine runs; none does in these tests.
"""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, its comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\s*\n", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile by the rules below."""
    told, stages, user = [], [], "root"
    for name, rest in instructions(text):
        if name == "FROM":
            image, _, stage = rest.partition(" AS ")
            tag = image.rpartition(":")[2] if ":" in image else ""
            if image not in stages and tag in ("", "latest"):
                told.append(f"{image} is not pinned to a version")
            stages.append(stage)
            user = "root"
        elif name == "USER":
            user = rest
        elif name == "ADD":
            told.append("ADD fetches and unpacks; use COPY")
        elif name in ("ENTRYPOINT", "CMD") and not rest.startswith("["):
            told.append(f"{name} runs in a shell, which swallows signals")
        elif name == "RUN":
            told += [f"RUN holds '{word}'" for word in ("sudo", "curl ", "wget ", "| sh") if word in rest]
            if "apt-get install" in rest and not ("--no-install-recommends" in rest and "rm -rf /var/lib/apt" in rest):
                told.append("apt-get install leaves more than it needs")
            if "pip install" in rest and "--no-cache-dir" not in rest:
                told.append("pip keeps its cache in the image")
            if re.search(r"\bcd ", rest):
                told.append("cd; use WORKDIR")
        elif name == "ENV" and re.search(r"(?i)token|password|secret", rest):
            told.append("a secret stays in the image")
    if user in ("root", "0"):
        told.append("it runs as root")
    return told


def ignored(path: str, rules: str) -> bool:
    """Whether .dockerignore leaves `path` out: the last rule that matches it or a folder above it decides."""
    verdict = False
    parts = Path(path).parts
    ways = ["/".join(parts[: k + 1]) for k in range(len(parts))]
    for rule in rules.splitlines():
        if rule.strip() and not rule.startswith("#"):
            pattern = rule.strip().lstrip("!").removeprefix("**/")
            names = parts if "**/" in rule else ways
            if any(fnmatch.fnmatchcase(name, pattern) for name in names if "**/" in rule or
                   name.count("/") == pattern.count("/")):
                verdict = not rule.startswith("!")
    return verdict


def test_the_dockerfile_is_without_fault():
    assert faults((ROOT / "Dockerfile").read_text("utf-8")) == []


def test_faults_are_seen():
    bad = ("FROM python\nRUN apt-get install x && cd /y && pip install z\nADD https://a /b\nENV API_TOKEN=1\n"
           "RUN curl x | sh\nENTRYPOINT sigan\n")
    assert len(faults(bad)) == 10
    assert faults("FROM a:1 AS b\nUSER u\nFROM b\nCMD x") == ["CMD runs in a shell, which swallows signals",
                                                             "it runs as root"]


def test_it_starts_the_command_and_leaves_help_when_nothing_is_asked():
    told = dict(instructions((ROOT / "Dockerfile").read_text("utf-8")))
    assert (json.loads(told["ENTRYPOINT"]), json.loads(told["CMD"])) == (["sigan"], ["--help"])


def test_what_is_copied_is_there_and_reaches_the_engine():
    rules = (ROOT / ".dockerignore").read_text("utf-8")
    copied = [word for name, rest in instructions((ROOT / "Dockerfile").read_text("utf-8"))
              if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]]
    assert copied
    for path in copied:
        assert (ROOT / path).exists() and not ignored(path, rules), path
    kept = [f"sigan/{name}" for name in ("cli/app.py", "assets/mini/generator.safetensors")]
    left = (".git/config", "tests/conftest.py", "plugins/sigan-foundry/pyproject.toml", "sigan/cli/__pycache__/a.pyc",
            ".venv/bin/python", "sigan.egg-info/PKG-INFO")
    assert [path for path in kept if ignored(path, rules)] == []
    assert [path for path in left if not ignored(path, rules)] == []


def test_the_project_files_that_pip_reads_are_copied():
    """pyproject.toml names its readme and licence files; a wheel is not built without them."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    named = {re.search(r'^readme = "(.*)"', text, re.MULTILINE)[1],
             *re.findall(r'"(\w+)"', re.search(r"^license-files = (.*)$", text, re.MULTILINE)[1])}
    copied = " ".join(rest for name, rest in instructions((ROOT / "Dockerfile").read_text("utf-8")) if name == "COPY")
    assert named and all(name in copied.split() for name in named)
