"""The checkup of plugins: whatever they do when they load, this process lives and the others are tried."""

from __future__ import annotations

import sys

from sigan import checkup, plugins


def code(source: str) -> dict[str, str]:
    return {"__init__.py": source}


def told(limit: float = 20.0) -> dict[str, plugins.PluginProblem]:
    return {problem.package: problem for problem in checkup.problems(limit) if problem.package.startswith("hp-")}


def test_each_broken_plugin_is_told_and_none_is_loaded_here(package):
    package("hp-fine", {"sigan.metrics": {"fine": ":x"}}, code("print('hello'); x = 1"))
    package("hp-raises", {"sigan.metrics": {"raises": ":x"}}, code("raise RuntimeError('boom')"))
    package("hp-exits", {"sigan.engines": {"exits": ":x"}}, code("import sys; sys.exit(3)"))
    package("hp-needy", {"sigan.inverters": {"needy": ":x"}}, code("import hp_absent"))
    package("hp-lacks", {"sigan.bases": {"lacks": ":y"}}, code("x = 1"))
    problems = told()
    assert sorted(problems) == ["hp-exits", "hp-lacks", "hp-needy", "hp-raises"]
    assert "RuntimeError: boom" in problems["hp-raises"].message
    assert "No module named 'hp_absent'" in problems["hp-needy"].message
    assert problems["hp-needy"].hint.startswith("`pip install hp_absent`")
    assert not any(name.startswith("hp_") for name in sys.modules)


def test_a_plugin_that_hangs_or_kills_is_told_and_the_rest_tried(package):
    package("hp-a-hangs", {"sigan.metrics": {"a": ":x"}}, code("import time; time.sleep(600)"))
    package("hp-b-kills", {"sigan.metrics": {"b": ":x"}}, code("import os; os._exit(7)"))
    package("hp-c-fails", {"sigan.metrics": {"c": ":x"}}, code("x ="))
    problems = told(limit=2.0)
    assert "hangs: it did not load within 2 s" in problems["hp-a-hangs"].message
    assert "ends the interpreter when it loads (exit code 7)" in problems["hp-b-kills"].message
    assert "SyntaxError" in problems["hp-c-fails"].message and len(problems) == 3


def test_what_is_switched_off_is_not_tried(package, monkeypatch):
    package("hp-raises", {"sigan.metrics": {"raises": ":x"}}, code("raise RuntimeError('boom')"))
    assert sorted(told()) == ["hp-raises"]
    monkeypatch.setenv(plugins.SWITCH, "hp-absent")
    assert {name: problem.message for name, problem in told().items()} == {
        "hp-absent": "SIGAN_PLUGINS names 'hp-absent', which adds nothing here"}
