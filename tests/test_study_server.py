"""The server against programs: doubles, floods, injections, kills; and vote files edited by hand."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys

import pytest
import voters

from sigan.cli.app import main
from sigan.errors import ConfigError, InputError
from sigan.study import ballots, box, plan
from sigan.study.server import Limits, StudyServer
from sigan.study.tally import TallyConfig, tally


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return voters.make(tmp_path_factory.mktemp("server"))


@pytest.fixture
def folder(built, tmp_path):
    """A copy of the study without votes."""
    import shutil

    return shutil.copytree(built.folder, tmp_path / "study", ignore=shutil.ignore_patterns("votes*"))


def test_votes_are_counted_once_and_the_tally_knows_the_order(folder):
    study = plan.load(folder)
    with voters.serving(folder) as server:
        for _ in range(8):
            voter = voters.Voter(server.server_address[1], study)
            assert voter.join() == 200
            while voter.answered < study.length:
                place = voter.answered
                _, left, right = voter.sheet[place]
                choice = voters.wise(study)(left, right)
                assert voter.vote(choice) == 200
                assert voter.vote(choice, position=place) == 200  # sent again, since the reply was lost
                assert voter.answered == place + 1
                assert voter.vote("tie", position=place) == 409  # another answer to the same
                if place + 2 < study.length:
                    assert voter.vote("left", position=place + 2) == 409  # before its turn
    voters.age(folder)
    result = tally([folder], TallyConfig(resamples=100))
    assert (result.counted, result.votes, result.ties) == (8, 8 * 6, 0)
    assert [rank.method for rank in result.ranking] == list(voters.METHODS)
    assert result.preferences[0].preference == 1 and result.preferences[0].wilson[0] > 0.8
    assert result.helped and "order only" in " ".join(result.warnings)
    sheets = [ballot.sheet for ballot in box.ballots(folder, study)]
    assert sorted(sheets) == list(range(8))  # nobody shares a sheet while there are others


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", b"[" * 1500, b'{"study": NaN}', b'{"a": 1, "a": 2}', b"\xff\xfe", b'{"study": "x"}'])
def test_what_is_no_request_is_refused(folder, body):
    with voters.serving(folder) as server:
        voter = voters.Voter(server.server_address[1], server.study)
        status, _, content = voter.ask("POST", "/vote", body)
        assert status in (400, 404) and set(json.loads(content)) == {"error"}


@pytest.mark.parametrize("change", [
    {"choice": "'; DROP TABLE votes; --"}, {"choice": "<script>alert(1)</script>"}, {"position": "0"},
    {"position": True}, {"position": -1}, {"position": 10**6}, {"ms": 1.5}, {"ms": 10**9}, {"left": "x"}, {"more": 1},
    {"choice": None}, {"left": ["x"]}])
def test_injections_reach_nothing(folder, change):
    with voters.serving(folder) as server:
        voter = voters.Voter(server.server_address[1], server.study)
        voter.join()
        status, reply = voter.post("/vote", **{**voter.answer("left"), **change})
        assert status == 400
        sent = [value for value in change.values() if isinstance(value, str) and len(value) > 1]
        assert not any(value in reply["error"] for value in sent)
        assert voter.post("/join", language="en'; --", practised="no")[0] == 400
        voter.token = "' OR 1=1 --"
        assert voter.vote("left") == 401
        assert [len(ballot.answers) for ballot in box.ballots(folder, server.study)] == [0]


def test_floods_are_slowed_and_people_are_not(folder):
    limits = Limits(joins_an_hour=3, votes_a_second=0.01, votes_at_once=2)
    with voters.serving(folder, limits) as server:
        voter = voters.Voter(server.server_address[1], server.study)
        assert [voter.join() for _ in range(5)] == [200, 200, 200, 429, 429]
        assert [voter.vote("left", position=0) for _ in range(4)] == [200, 200, 429, 429]
        status, headers, _ = voter.ask("POST", "/vote", {"study": server.study.hash, **voter.answer("left")})
        assert status == 429 and int(headers["Retry-After"]) > 1
        assert server.refused["too fast"] == 5


def test_size_time_and_paths_are_limited(folder):
    with voters.serving(folder, Limits(seconds=0.5)) as server:
        port = server.server_address[1]
        voter = voters.Voter(port, server.study)
        for path in ("/study.json", "/pictures/../study.json", "/votes.sqlite", "/pictures/%2e%2e/study.json", "//x"):
            assert voter.ask("GET", path)[0] == 404
        assert voter.ask("POST", "/vote", headers={"Content-Length": "100000"})[0] == 413
        assert voter.ask("POST", "/join", b"{}", {"Content-Type": "text/plain"})[0] == 415
        assert voter.ask("POST", "/join", b"{}", {"Sec-Fetch-Site": "cross-site"})[0] == 403
        assert voter.ask("DELETE", "/")[0] == 501
        with socket.create_connection(("127.0.0.1", port), timeout=20) as drip:
            drip.sendall(b"GET / HT")
            assert drip.recv(100) == b""  # closed on it
        status, headers, content = voter.ask("GET", "/")
        assert status == 200 and b"alpha" not in content
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"] and headers["X-Content-Type-Options"] == "nosniff"


def test_every_acknowledged_vote_outlives_a_kill(folder):
    """kill -9 in the midst of votes, three times over; the box holds what was acknowledged, and one more at most."""
    study = plan.load(folder)
    acknowledged: dict[str, int] = {}
    tokens: list[voters.Voter] = []
    for round_ in range(3):
        command = [sys.executable, "-m", "sigan", "study", "serve", str(folder), "--port", "0", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            port = int(json.loads(process.stdout.readline())["url"].rstrip("/").rpartition(":")[2])
            for voter in tokens:
                voter.port = port
                status, reply = voter.post("/me")
                assert status == 200 and reply["answered"] == voter.answered  # a participant goes on
            voter = voters.Voter(port, study)
            assert voter.join() == 200
            tokens.append(voter)
            for place in range(round_ + 2):
                assert voter.vote("left") == 200
                acknowledged[box.participant(voter.token)[:12]] = place + 1
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        assert {ballot.participant: len(ballot.answers) for ballot in box.ballots(folder, study)} == acknowledged


def test_invitations_admit_each_once(tmp_path):
    built = voters.make(tmp_path, invitations=2)
    codes = (built.folder / "invitations.txt").read_text().split()
    with voters.serving(built.folder) as server:
        voter = voters.Voter(server.server_address[1], built.study)
        assert voter.join() == 403 and voter.join(invitation="x") == 403
        assert voter.join(invitation=codes[0]) == 200
        voter.vote("left")
        again = voters.Voter(server.server_address[1], built.study)
        assert again.join(invitation=codes[0]) == 200  # on another device: the same participant
        assert (again.token, again.answered) == (voter.token, 1)


def test_a_foreign_or_damaged_box_is_told(folder, tmp_path):
    study = plan.load(folder)
    (folder / box.FILE).write_bytes(b"no database at all, but long enough to be looked at" * 40)
    for ask in (lambda: StudyServer(folder, port=0), lambda: box.ballots(folder, study)):
        with pytest.raises(InputError, match="not a ballot box"):
            ask()
    (folder / box.FILE).unlink()
    box.BallotBox(folder, study).close()
    with sqlite3.connect(folder / box.FILE) as db:
        db.execute("UPDATE study SET hash = 'x'")
    with pytest.raises(InputError, match="another study"):
        box.ballots(folder, study)


def test_a_port_in_use_is_told(folder, capsys):
    with voters.serving(folder) as server:
        with pytest.raises(ConfigError, match="cannot listen"):
            StudyServer(folder, port=server.server_address[1])
        assert main(["study", "serve", str(folder), "--port", str(server.server_address[1])]) == 2
    assert "--port" in capsys.readouterr().err


# ---- vote files

@pytest.fixture
def vote_file(built, tmp_path):
    """vote_file(**changes): a sealed file of somebody honest, then changed."""
    study = built.study

    def write(name="a.json", participant="ab" * 16, seal=True, **changes):
        record = {"format": ballots.FORMAT, "study": study.hash, "participant": participant, "sheet": 1,
                  "language": "zh", "practised": "yes", "started": 10**12, "finished": 10**12 + 60_000, "answers": []}
        for position in range(study.length):
            one = study.shown(1, position)
            record["answers"].append({"position": position, "left": one.left, "right": one.right,
                                      "choice": voters.wise(study)(one.left, one.right), "ms": 1500})
        if not seal:
            record["seal"] = ballots.seal(record)
        record.update({key: value(record) if callable(value) else value for key, value in changes.items()})
        if seal:
            record["seal"] = ballots.seal(record)
        (tmp_path / name).write_text(json.dumps(record))
        return tmp_path / name

    return write


def test_a_vote_file_counts(built, vote_file):
    result = tally([built.folder, vote_file()])
    assert (result.counted, result.votes, result.refused) == (1, 6, ())
    assert result.ranking[0].interval is None  # of one participant, nothing can be drawn


@pytest.mark.parametrize(("changes", "said"), [
    ({"seal": False, "answers": lambda r: [{**r["answers"][0], "ms": 99}, *r["answers"][1:]]}, "seal"),
    ({"study": "0" * 64}, "another study"),
    ({"sheet": 2}, "another pair"),
    ({"answers": lambda r: [*r["answers"][:-1], r["answers"][0]]}, "doubled"),
    ({"answers": lambda r: r["answers"][1:]}, "missing"),
    ({"answers": lambda r: [{**r["answers"][0], "left": "0" * 16}, *r["answers"][1:]]}, "left"),
    ({"participant": "../../x"}, "participant"), ({"practised": "<b>"}, "practised"), ({"more": 1}, "keys"),
    ({"format": "x"}, "format")])
def test_an_edited_vote_file_is_refused(built, vote_file, changes, said, capsys):
    path = vote_file(**changes)
    good, refused, _ = ballots.read_all([path], built.study)
    assert good == [] and said in refused[0].reason
    assert main(["study", "tally", str(built.folder), str(path)]) == 3


def test_copies_count_once_and_contradictions_not_at_all(built, vote_file):
    whole, copy = vote_file("a.json"), vote_file("b.json")
    good, refused, copies = ballots.read_all([whole, copy], built.study)
    assert (len(good), refused, copies) == (1, [], 1)
    other = vote_file("c.json", answers=lambda r: [{**one, "choice": "tie"} for one in r["answers"]])
    good, refused, _ = ballots.read_all([whole, other], built.study)
    assert good == [] and len(refused) == 2


@pytest.mark.parametrize(("changes", "rule"), [
    ({"answers": lambda r: r["answers"][:2]}, "incomplete"),
    ({"answers": lambda r: [{**one, "choice": "tie"} for one in r["answers"]]}, "checks"),
    ({"answers": lambda r: [{**one, "ms": 300} for one in r["answers"]]}, "too fast"),
    ({"finished": 10**12 + 100}, "impossible")])
def test_each_rule_of_exclusion(built, vote_file, changes, rule):
    good = vote_file("good.json", "cd" * 16)
    result = tally([built.folder, good, vote_file("bad.json", **changes)])
    assert result.counted == 1 and {key for key, count in result.excluded.items() if count} == {rule}
    assert result.excluded[rule] == 1


def test_the_tally_as_json_and_as_tables(built, vote_file, capsys):
    files = [str(vote_file(f"{k}.json", f"{k:032x}")) for k in range(3)]
    assert main(["study", "tally", str(built.folder), *files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counted"] == 3 and told["ranking"][0]["method"] == voters.METHODS[0]
    assert main(["study", "tally", str(built.folder), *files]) == 0
    shown = capsys.readouterr().err
    assert "ranking" in shown and "below 20" in shown
    assert main(["study", "tally", *files]) == 2 and "study build" in capsys.readouterr().err
    assert main(["study", "tally", str(built.folder)]) == 3 and "nobody voted" in capsys.readouterr().err
