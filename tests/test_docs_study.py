"""The run that docs/study.md tells, end to end: its own `build`, `serve` and `tally` lines, on drawn pictures."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import voters

from sigan.cli.app import main
from sigan.study import plan

PAGE = Path(__file__).resolve().parent.parent / "docs" / "study.md"


def lines(command: str) -> list[list[str]]:
    """The page's lines of one `sigan study` command, as words after `sigan`."""
    found = re.findall(rf"^sigan (study {command} .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


def test_the_study_runs_as_the_page_tells(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (build,), (serve,), (tally, mailed) = lines("build"), lines("serve"), lines("tally")
    for k, name in enumerate(("results/watercolor", "results/line", "examples/portraits")):
        voters.draw(tmp_path / name, 3, k)
    assert main(build) == 0
    study = plan.load("study")
    here = [{"0.0.0.0": "127.0.0.1", "8000": "0"}.get(word, word) for word in serve]
    process = subprocess.Popen([sys.executable, "-m", "sigan", *here, "--json"], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.DEVNULL)
    try:
        port = int(json.loads(process.stdout.readline())["url"].rstrip("/").rpartition(":")[2])
        for _ in range(2):
            voter = voters.Voter(port, study)
            assert voter.join() == 200
            while voter.answered < study.length:
                assert voter.vote(voters.wise(study, study.methods)(*voter.sheet[voter.answered][1:])) == 200
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    voters.age(tmp_path / "study")
    capsys.readouterr()
    assert main(tally) == 0
    assert "watercolor" in capsys.readouterr().err
    folder = tmp_path / mailed[3]
    folder.mkdir()
    shutil.copy("study/study.json", folder / "no-votes.json")  # mailed by mistake: refused, the others count
    assert main(mailed) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["counted"], len(told["refused"]), told["ranking"][0]["method"]) == (2, 1, "watercolor")
