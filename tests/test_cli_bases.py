"""`sigan bases`, on a tiny base imported from foreign files."""

from __future__ import annotations

import json

import foreign
import numpy as np
import pytest
import torch
from loopback import QUOTA_PAGE, good, status

from sigan import bases, downloads, images, intake, weights
from sigan.cli import bases as command
from sigan.cli import render
from sigan.cli.app import main


@pytest.fixture
def run(capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def files(tmp_path):
    """gan.pt, e4e.pt: a tiny model in the layouts of other programs."""
    g, d, e = (net.state_dict() for net in (foreign.generator(), foreign.discriminator(), foreign.encoder()))
    torch.save({"g_ema": foreign.rosinality_generator(g), "d": foreign.rosinality_discriminator(d),
                "latent_avg": g["mapping.w_avg"]}, tmp_path / "gan.pt")
    e["w_avg"].copy_(g["mapping.w_avg"].expand_as(e["w_avg"]))
    torch.save(foreign.e4e(e, g), tmp_path / "e4e.pt")
    return tmp_path


@pytest.fixture
def tiny(files):
    intake.import_files([files / "gan.pt", files / "e4e.pt"], "tiny", licence="for research only")
    return bases.load("tiny")


def test_import_tells_what_became_of_the_files(run, files):
    code, out, err = run("bases", "import", files / "e4e.pt", "--name", "tiny")
    assert (code, out) == (0, "") and "base tiny (generator, encoder)" in err and "no discriminator" in err
    assert "assumed from the file's layout" in err
    code, out, _ = run("bases", "import", files / "gan.pt", "--name", "tiny", "--json")
    [made] = json.loads(out)["imported"]
    assert code == 0 and made["parts"] == ["generator", "discriminator", "encoder"] and made["notes"] == []


def test_import_refuses_a_web_page_and_a_name_that_leaves_the_folder(run, files):
    (files / "ffhq.pt").write_bytes(QUOTA_PAGE)
    code, out, err = run("bases", "import", files / "ffhq.pt")
    assert (code, out) == (5, "") and "web page" in err and "hint: " in err
    assert run("bases", "import", files / "gan.pt", "--name", "../up")[0] == 2


def test_list_shows_what_is_here_what_is_broken_and_what_can_be_had(run, tiny):
    folder = bases.home() / "gone"
    folder.mkdir()
    (folder / bases.RECORD).write_text("{")
    code, out, err = run("bases", "list")
    assert (code, out) == (0, "") and "tiny" in err and "base.json is damaged" in err
    assert "sigan bases pull ffhq" in err and "lpips-vgg" in err
    (offer,) = [line for line in err.splitlines() if line.startswith("ffhq ")]
    assert offer.count("NVIDIA Source Code License") == 1 and offer.count("FFHQ") == 1 and "MIT (encoder)" in offer
    told = json.loads(run("bases", "list", "--json")[1])
    rows = {row["name"]: row for row in told["bases"]}
    assert (rows["tiny"]["resolution"], rows["tiny"]["error"]) == (32, None) and rows["gone"]["error"]
    assert [offer["name"] for offer in told["offered"]] == ["ffhq"]
    assert {other["name"]: other["here"] for other in told["weights"]}["fid-inception"] is False


def test_list_and_show_need_no_torch(tiny):
    import subprocess
    import sys

    probe = ("import sys; from sigan.cli.app import main; main(['bases', 'list']); main(['bases', 'show', 'tiny']); "
             "print([name for name in ('torch', 'numpy', 'PIL') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and "tiny" in done.stderr


def test_show_tells_hash_licence_sizes_and_sources_and_how_to_get_what_is_not_here(run, tiny):
    facts = json.loads(run("bases", "show", "tiny", "--json")[1])
    assert facts["hash"] == tiny.hash and facts["licence"] == "for research only"
    assert facts["values"]["generator"] == sum(v.numel() for v in tiny.generator.state_dict().values())
    text = run("bases", "show", "tiny")[2]
    assert tiny.hash in text and "gan.pt (rosinality" in text
    code, _, err = run("bases", "show", "ffhq")
    assert code == 5 and "sigan bases pull ffhq" in err
    assert run("bases", "show", "nobody")[0] == 2


def test_verify_and_remove(run, tiny):
    assert run("bases", "verify", "tiny")[0] == 0
    path = bases.find("tiny") / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 255
    path.write_bytes(content)
    code, out, err = run("bases", "verify", "--json")
    rows = {row["name"]: row["ok"] for row in json.loads(out)["verified"]}
    assert code == 5 and rows == {"mini": True, "tiny": False} and "encoder.safetensors is corrupt" in err
    assert json.loads(run("bases", "remove", "tiny", "--json")[1])["removed"] == str(path.parent)
    assert run("bases", "verify")[0] == 0 and not path.parent.exists()
    assert run("bases", "remove", "tiny")[0] == 2 and run("bases", "remove", "mini")[0] == 2


# ---- pull

@pytest.fixture
def offered(monkeypatch, server, files):
    """A base `small` that the server offers."""
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    entries = {name: weights.WeightFile(name, f"{name}.pt", (f"{server.url}/{name}.pt",), 2 * 10**6,
                                        f"terms of {name}", f"https://{name}.example", f"half of small, {name}")
               for name in ("gan", "e4e")}
    monkeypatch.setattr(weights, "CATALOGUE", entries)
    monkeypatch.setattr(weights, "PULLED", {"small": (("gan",), ("e4e",))})
    for name in entries:
        server.answers[f"/{name}.pt"] = good((files / f"{name}.pt").read_bytes())
    return entries


def test_the_licences_are_shown_before_anything_is_downloaded(run, offered, server):
    code, out, err = run("bases", "pull", "small")
    assert (code, out) == (2, "") and server.asked == [] and "--yes" in err
    for name in offered:
        assert f"terms of {name}" in err and f"https://{name}.example" in err
    code, out, err = run("bases", "pull", "small", "--yes", "--json")
    assert code == 0 and json.loads(out)["imported"][0]["licence"] == "terms of gan; terms of e4e"
    assert err.index("terms of e4e") < err.index("gan.pt: downloading") < err.index("e4e.pt: done")
    assert bases.load("small").licence == "terms of gan; terms of e4e"
    code, _, err = run("bases", "pull", "small")  # nothing to download, nothing to accept
    assert code == 0 and "it was here already" in err


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked(run, offered, server, monkeypatch, answer):
    monkeypatch.setattr(render, "interactive", lambda: True)
    monkeypatch.setattr(command.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(command.typer, "confirm", lambda question, err: answer)
    assert run("bases", "pull", "small")[0] == (0 if answer else 2)
    assert bool(server.asked) == answer and ("small" in bases.names()) == answer


def test_pull_offline_and_with_a_quota(run, offered, server, monkeypatch):
    monkeypatch.setenv("SIGAN_OFFLINE", "1")
    code, _, err = run("bases", "pull", "small")
    assert code == 6 and "SIGAN_OFFLINE" in err and server.asked == []
    monkeypatch.delenv("SIGAN_OFFLINE")
    server.answers["/gan.pt"] = status(200, QUOTA_PAGE)
    code, _, err = run("bases", "pull", "small", "--yes")
    assert code == 5 and "quota" in err and "https://gan.example" in err and "sigan bases import" in err
    assert "small" not in bases.names() and run("bases", "pull", "nothing")[0] == 2


# ---- sample

def test_sample_draws_what_the_base_draws(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "BATCH", 2)
    code, out, _ = run("bases", "sample", "tiny", tmp_path / "a", "-n", 3, "--seed", 5, "--truncation", 0.5, "--json")
    record = json.loads(out)
    assert code == 0 and (record["seed"], record["truncation"]) == (5, 0.5)
    assert record["outputs"] == [str(tmp_path / "a" / f"face-000{i}.png") for i in range(3)]
    with torch.inference_mode():
        expected = images.from_batch(tiny.generator.synthesis(tiny.sample(3, seed=5, truncation=0.5)))
    for path, image in zip(record["outputs"], expected):
        assert np.abs(images.read(path).astype(int) - image).max() <= 1  # batches of two against one of three


def test_sample_without_json_says_where(run, tiny, tmp_path):
    code, out, err = run("bases", "sample", "tiny", tmp_path / "a", "-n", 1)
    assert (code, out) == (0, "") and f"1 faces in {tmp_path / 'a'}" in err
    assert run("bases", "sample", "tiny", tmp_path / "b", "-n", 1, "--quiet")[1:] == ("", "")
    assert images.read(tmp_path / "a/face-0000.png").tolist() == images.read(tmp_path / "b/face-0000.png").tolist()


@pytest.mark.parametrize(("option", "message"), [
    (("-n", 0), "-n is 0"), (("--truncation", 1.5), "truncation is 1.5"), (("--device", "tpu"), "device is 'tpu'")])
def test_sample_names_what_it_refuses_and_makes_nothing(run, tmp_path, option, message):
    code, _, err = run("bases", "sample", "mini", tmp_path / "a", *option)
    assert code == 2 and message in err and not (tmp_path / "a").exists()


def test_sample_names_a_place_where_nothing_can_be_written(run, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run("bases", "sample", "tiny", tmp_path / "file", "-n", 1)
    assert code == 2 and "file" in err and "hint: " in err
