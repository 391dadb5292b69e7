"""Downloads from a server on loopback that does everything servers do wrong."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from types import SimpleNamespace

import pytest
from loopback import QUOTA_PAGE, SCAN_PAGE, breaking, good, status

from sigan import downloads, weights
from sigan.errors import OfflineError, OutputError, WeightsError

CONTENT = os.urandom(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PULL = ("import sys, pathlib\nfrom sigan import downloads\n"
        "for record in downloads.download(pathlib.Path(sys.argv[1]), (sys.argv[2],)):\n"
        "    print(record.state, record.bytes, flush=True)")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.0)


@pytest.fixture
def get(server, tmp_path):
    """get(*paths, **known): downloads from the server's paths into a folder of its own; gives file and records."""
    def get(*paths: str, **known):
        path = tmp_path / "cache" / "file.pt"
        records = list(downloads.download(path, tuple(server.url + p for p in paths or ("/file.pt",)), **known))
        return path, records

    return get


def leftovers(tmp_path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache").iterdir() if not p.name.endswith(".lock"))


def test_a_download_is_whole_proven_and_told_as_it_goes(server, get, tmp_path):
    server.answers["/file.pt"] = good(CONTENT)
    path, records = get(size=len(CONTENT), digest=DIGEST[:8])
    assert path.read_bytes() == CONTENT and leftovers(tmp_path) == ["file.pt"]
    assert [r.state for r in records][-2:] == ["verifying", "done"]
    sent = [r.bytes for r in records if r.state == "downloading"]
    assert sent == sorted(sent) and sent[-1] == records[0].total == len(CONTENT)


def test_what_is_here_is_not_asked_for(server, get):
    server.answers["/file.pt"] = good(CONTENT)
    get()
    assert [r.state for r in get()[1]] == ["done"] and len(server.asked) == 1


def test_a_broken_download_is_taken_up_where_it_stopped(server, get):
    server.answers["/file.pt"] = breaking(CONTENT, 1_000_000, 500_000)
    path, records = get()
    assert path.read_bytes() == CONTENT
    assert server.ranges() == ["", "bytes=1000000-", "bytes=1500000-"]
    assert "resuming" in {r.state for r in records}


def test_the_next_process_takes_it_up_too(server, tmp_path):
    server.answers["/file.pt"] = good(CONTENT, pause=0.05)
    path = tmp_path / "cache" / "file.pt"
    work = subprocess.Popen([sys.executable, "-c", PULL, str(path), server.url + "/file.pt"], stdout=subprocess.PIPE)
    assert work.stdout.readline().startswith(b"downloading")
    work.send_signal(signal.SIGKILL)
    work.wait()
    assert not path.exists()
    list(downloads.download(path, (server.url + "/file.pt",)))
    assert path.read_bytes() == CONTENT and server.ranges()[1].startswith("bytes=")


def test_a_server_that_gives_no_parts_begins_anew(server, get):
    server.answers["/file.pt"] = breaking(CONTENT, 1_000_000, ranges=False)
    assert get()[0].read_bytes() == CONTENT


def test_two_editions_are_never_glued_together(server, get, tmp_path):
    server.answers["/file.pt"] = breaking(CONTENT, 1_000_000, *[0] * 9, edition='"1"')
    with pytest.raises(WeightsError):
        get()
    assert ".file.pt.part" in leftovers(tmp_path)
    newer = os.urandom(2_500_000)
    server.answers["/file.pt"] = good(newer, edition='"2"')
    assert get()[0].read_bytes() == newer and server.asked[-1][1]["If-Range"] == '"1"'


def test_a_part_that_was_whole_already_is_kept(server, get, tmp_path):
    server.answers["/file.pt"] = good(CONTENT)
    with pytest.raises(KeyboardInterrupt):
        get(prove=lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    assert get()[0].read_bytes() == CONTENT and server.ranges()[-1] == f"bytes={len(CONTENT)}-"


@pytest.mark.parametrize("claim", [2_000_000, 4_000_000])
def test_a_content_length_that_lies(server, get, tmp_path, claim):
    server.answers["/file.pt"] = good(CONTENT, announce=claim, ranges=False)
    with pytest.raises(WeightsError, match=f"offers {claim} bytes instead of 3000000"):
        get(size=len(CONTENT))
    assert leftovers(tmp_path) == []
    told = "sent another file" if claim < len(CONTENT) else "3000000 bytes came, 1000000 more were announced"
    with pytest.raises(WeightsError, match=told):  # and where the size is not known
        get(digest=DIGEST)
    assert "file.pt" not in leftovers(tmp_path)


def test_more_than_was_wanted_is_not_kept(server, get, tmp_path):
    server.answers["/file.pt"] = good(CONTENT, announce=-1)
    with pytest.raises(WeightsError, match="sends more than the 1000000 bytes"):
        get(size=1_000_000)
    assert "file.pt" not in leftovers(tmp_path)


def test_an_end_that_nobody_announced_is_found_by_the_proof(server, get, tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", CONTENT)
    server.answers["/file.pt"] = good(archive.getvalue(), announce=-1, stop=lambda: 1_000_000)
    with pytest.raises(WeightsError, match="what it sends is truncated: the table at the end of the"):
        get(prove=weights.check_whole)
    assert leftovers(tmp_path) == []
    server.answers["/file.pt"] = good(archive.getvalue(), announce=-1)
    assert get(prove=weights.check_whole)[0].read_bytes() == archive.getvalue()


def test_another_file_is_refused_and_the_next_address_asked(server, get):
    server.answers |= {"/wrong.pt": good(CONTENT[::-1]), "/file.pt": good(CONTENT)}
    path, records = get("/wrong.pt", "/gone.pt", "/file.pt", digest=DIGEST)
    assert path.read_bytes() == CONTENT and records[-1].url == server.url + "/file.pt"


def test_every_address_and_its_reason_are_told(server, get, tmp_path):
    server.answers |= {"/page": status(200, b"<html><title>Log in &amp; pay</title></html>"), "/busy": status(503),
                       "/quota": status(200, QUOTA_PAGE), "/other": good(CONTENT)}
    with pytest.raises(WeightsError) as caught:
        get("/page", "/busy", "/quota", "/gone", "/other", digest="00", remedy="fetch it by hand")
    told = caught.value.message.splitlines()
    for line, reason in zip(told[1:], ("sends a web page instead of the file, titled 'Log in & pay'", "answers 503",
                                       "its quota of downloads is used up", "answers 404", "sent another file")):
        assert reason in line
    assert caught.value.hint == "fetch it by hand" and caught.value.exit_code == 5
    assert "file.pt" not in leftovers(tmp_path)


def test_a_quota_told_with_an_error_code(server, get):
    server.answers["/file.pt"] = status(403, QUOTA_PAGE)
    with pytest.raises(WeightsError, match="answers 403 .*quota of downloads is used up"):
        get()


def test_the_question_about_the_virus_scan_is_answered(server, get):
    server.answers |= {"/file.pt": status(200, SCAN_PAGE), "/confirmed": good(CONTENT)}
    assert get()[0].read_bytes() == CONTENT
    assert server.asked[-1][0] == "/confirmed?id=abc&confirm=t&uuid=1%262"


def test_no_network_is_a_state_of_its_own(get, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "cache" / "file.pt"
    with pytest.raises(OfflineError, match="cannot be reached") as caught:
        list(downloads.download(path, (f"http://127.0.0.1:{port}/file.pt",)))
    assert caught.value.exit_code == 6


def test_offline_forbids_the_network(server, get, monkeypatch):
    server.answers["/file.pt"] = good(CONTENT)
    monkeypatch.setenv("SIGAN_OFFLINE", "1")
    with pytest.raises(OfflineError, match="SIGAN_OFFLINE"):
        get()
    assert server.asked == []
    monkeypatch.setenv("SIGAN_OFFLINE", "0")
    assert get()[0].read_bytes() == CONTENT


def test_a_mirror_takes_the_place_of_every_host(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SIGAN_MIRROR", server.url + "/")
    wanted = ("https://weights.invalid/some/where?id=3", "https://other.invalid/x")
    server.answers["/some/where"] = good(CONTENT)
    list(downloads.download(tmp_path / "a" / "file.pt", wanted))
    assert [path for path, _ in server.asked] == ["/some/where?id=3"]
    server.answers = {"/file.pt": good(CONTENT)}
    list(downloads.download(tmp_path / "b" / "file.pt", wanted))
    assert [path for path, _ in server.asked][1:] == ["/some/where?id=3", "/x", "/file.pt"]


def test_two_processes_download_once(server, tmp_path):
    server.answers["/file.pt"] = good(CONTENT, pause=0.03)
    path = tmp_path / "cache" / "file.pt"
    run = [sys.executable, "-c", PULL, str(path), server.url + "/file.pt"]
    works = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [work.communicate(timeout=60)[0].split()[-2:] for work in works]
    assert [work.returncode for work in works] == [0, 0] and told == [["done", str(len(CONTENT))]] * 2
    assert path.read_bytes() == CONTENT and len(server.asked) == 1


def test_no_space_is_known_before_anything_is_written(server, get, monkeypatch):
    server.answers["/file.pt"] = good(CONTENT)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(OutputError, match="no space left: 3 MB are needed and 67 MB to spare, 1 MB are free"):
        get()


def test_no_space_while_writing(server, get, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    server.answers["/file.pt"] = good(CONTENT)
    monkeypatch.setattr(downloads, "open", lambda path, mode: Full(), raising=False)
    with pytest.raises(OutputError, match="no space left on the disk") as caught:
        get()
    assert "resumes" in caught.value.hint and "file.pt" not in leftovers(tmp_path)


def test_a_slow_server_is_waited_for_but_not_for_ever(server, get, monkeypatch):
    server.answers["/file.pt"] = good(CONTENT, pause=0.02)
    assert get()[0].read_bytes() == CONTENT
    monkeypatch.setattr(downloads, "TIMEOUT", (1, 0.1))
    server.answers["/stuck.pt"] = lambda handler: time.sleep(0.5)
    with pytest.raises((WeightsError, OfflineError), match="timed out"):
        list(downloads.download(get()[0].with_name("other.pt"), (server.url + "/stuck.pt",)))
