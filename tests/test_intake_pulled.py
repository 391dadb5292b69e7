"""Bases pulled from a server on loopback: once, under the licence that was shown, and nothing else in their place."""

from __future__ import annotations

import hashlib

import foreign
import pytest
import torch
from loopback import QUOTA_PAGE, good, status

from sigan import bases, downloads, intake, weights
from sigan.errors import ConfigError, OfflineError, WeightsError


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.0)


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def catalogue(monkeypatch, server, files):
    """A base `tiny` that can be pulled from the server, and a trunk of known hash."""
    known = {"gan": "gan.pt", "spare": "spare.pt", "e4e": "e4e.pt"}
    entries = {name: weights.WeightFile(name, file, (f"{server.url}/{file}",), 10**6, f"terms of {name}", "page", "")
               for name, file in known.items()}
    trunk = files / "trunk.pth"
    torch.save({"a": torch.ones(3)}, trunk)
    entries["trunk"] = weights.WeightFile("trunk", "trunk.pth", (f"{server.url}/trunk.pth",), 10**6, "BSD", "page", "",
                                          sha256=sha256(trunk)[:8])
    monkeypatch.setattr(weights, "CATALOGUE", entries)
    monkeypatch.setattr(weights, "PULLED", {"tiny": (("gan", "spare"), ("e4e",))})
    for path in files.glob("*.pt*"):
        server.answers[f"/{path.name}"] = good(path.read_bytes())
    return entries


def test_a_base_is_pulled_once_and_remembers_its_sources(catalogue, server):
    *records, made = intake.pull("tiny")
    assert made.parts == bases.NETS and made.licence == "terms of gan; terms of e4e"
    assert bases.load("tiny").licence == made.licence
    assert {record.name for record in records} == {"gan.pt", "e4e.pt"}
    assert not list(weights.folder().glob("*.pt")) and set(weights.pins()) == {"gan.pt", "e4e.pt"}
    asked = len(server.asked)
    assert list(intake.pull("tiny"))[-1].notes == ("it was here already",) and len(server.asked) == asked
    sources = bases.record(bases.find("tiny"))["sources"]
    assert sorted(source["url"] for source in sources) == [f"{server.url}/e4e.pt", f"{server.url}/gan.pt"]


def test_the_alternative_is_pulled_where_the_first_cannot_be_had(catalogue, server):
    server.answers |= {"/gan.pt": status(200, QUOTA_PAGE), "/spare.pt": server.answers["/gan.pt"]}
    assert list(intake.pull("tiny"))[-1].parts == bases.NETS


def test_where_none_can_be_had_all_are_named(catalogue, server):
    for file in ("gan.pt", "spare.pt"):
        server.answers[f"/{file}"] = status(200, QUOTA_PAGE)
    with pytest.raises(WeightsError, match="gan.pt: its quota(.|\n)*spare.pt: its quota") as caught:
        list(intake.pull("tiny"))
    assert "fetch gan.pt (see page) or spare.pt (see page) in a browser" in caught.value.hint


def test_what_a_mirror_sends_is_under_the_licence_that_was_shown(catalogue, server, monkeypatch):
    for file in ("gan.pt", "e4e.pt"):
        server.answers[f"/mirrored/{file}"] = server.answers.pop(f"/{file}")
    monkeypatch.setenv("SIGAN_MIRROR", f"{server.url}/mirrored")
    made = list(intake.pull("tiny"))[-1]
    assert bases.load("tiny").licence == made.licence == "terms of gan; terms of e4e"


def test_two_who_pull_a_base_at_once_download_it_once(catalogue, server):
    """The first deletes the downloads when it is done: the second may not be reading them."""
    first, second = intake.pull("tiny"), intake.pull("tiny")
    assert next(first).state == "downloading" and next(second).state == "waiting"
    *_, made = first
    asked = len(server.asked)
    *_, found = second
    assert made.parts == found.parts == bases.NETS and found.notes == ("it was here already",)
    assert len(server.asked) == asked


def test_the_wrong_file_under_the_right_name(catalogue, server, files):
    server.answers["/e4e.pt"] = good((files / "trunk.pth").read_bytes())
    with pytest.raises(WeightsError, match="what was downloaded is no 'tiny'"):
        list(intake.pull("tiny"))
    assert "tiny" not in bases.names() and not weights.pins() and not list(weights.folder().glob("*.pt"))


def test_a_file_that_changed_since_it_was_pinned_is_refused(catalogue, server, nets, files):
    list(intake.pull("tiny"))
    bases.remove("tiny")
    assert "tiny" not in bases.names()
    torch.save({"g_ema": foreign.rosinality_generator(foreign.generator(seed=5).state_dict())}, files / "evil.pt")
    server.answers["/gan.pt"] = good((files / "evil.pt").read_bytes())
    with pytest.raises(WeightsError, match="sent another file") as caught:
        list(intake.pull("tiny"))
    assert f"delete its line in {weights.folder() / 'pins.json'}" in caught.value.message
    assert "tiny" not in bases.names()


def test_a_file_of_known_hash_is_recognised_under_any_name(catalogue, files):
    (files / "trunk.pth").rename(files / "holiday.jpg")
    with pytest.raises(WeightsError, match="trunk .* not here"):
        weights.path("trunk")
    [made] = intake.import_files([files / "holiday.jpg"])
    assert (made.kind, made.name) == ("weights", "trunk") and weights.path("trunk") == made.path
    assert weights.verify("trunk").startswith(weights.entry("trunk").sha256)


def test_offline_is_an_exit_code_of_its_own(catalogue, monkeypatch):
    monkeypatch.setenv("SIGAN_OFFLINE", "1")
    for wanted in ("tiny", "trunk"):
        with pytest.raises(OfflineError):
            list(intake.pull(wanted))
    with pytest.raises(OfflineError):
        weights.path("trunk")


def test_unknown_names_are_refused(catalogue):
    with pytest.raises(ConfigError, match="nothing called 'ffq' can be pulled"):
        weights.files_of("ffq")
