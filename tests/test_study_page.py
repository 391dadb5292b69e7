"""The participant's page in a real browser: 28 participants, half of them badly behaved."""

from __future__ import annotations

import json
import re
import time

import pytest
import voters

from sigan.study import ballots, box
from sigan.study.tally import TallyConfig, excluded, tally

QUICK = TallyConfig(min_seconds=0.2, resamples=100)  # the honest of this test press after a third of a second


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return voters.make(tmp_path_factory.mktemp("page"), trials=2, checks=1)


def begin(page, practised="no"):
    page.check(f"input[value={practised}]")
    page.check("#agree")
    page.click("#begin")


def wait_open(page):
    """Until the pictures are in sight and the page takes an answer."""
    page.wait_for_selector("#trial:not([hidden]) #pair:not(.waiting)")
    page.wait_for_timeout(300)


def state(page) -> dict:
    """What the page keeps over a reload."""
    return json.loads(page.evaluate("localStorage.getItem('sigan-study:' + "
                                    "JSON.parse(document.getElementById('data').textContent).study)"))


def until(page, true, seconds: float = 120) -> None:
    """Waits; Playwright's own waiting evaluates strings, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "the page did not get there"
        page.wait_for_timeout(20)


def shown(page, study, sheet):
    """Position and pictures of the page, from its own storage and the study's sheet."""
    position = state(page)["position"]
    return position, study.shown(sheet, position)


def play(page, study, folder_sheet, choose, hands=("key", "touch", "button"), count=None):
    """Answers the sheet, with keys, portraits and buttons in turn."""
    total = study.length if count is None else count
    for place in range(total):
        wait_open(page)
        position, one = shown(page, study, folder_sheet)
        choice = choose(one.left, one.right)
        hand = hands[place % len(hands)]
        if hand == "key":
            page.keyboard.press({"left": "ArrowLeft", "right": "ArrowRight", "tie": "Space"}[choice])
        elif hand == "touch" and choice != "tie":
            page.click(f"#{choice}")
        else:
            page.click(f"#choose-{choice}")
        until(page, lambda before=position: state(page)["position"] > before)


def sheet_of(server, page):
    until(page, lambda: state(page).get("participant"))
    return server.box.place(state(page)["participant"]).sheet


def test_twenty_eight_participants_half_of_them_badly_behaved(browser, built, screenshots):
    study, folder = built.study, built.folder
    honest = voters.wise(study)
    good, problems = 0, []
    kinds = {"desktop": {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"},
             "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
             "zh": {"viewport": {"width": 1280, "height": 800}, "locale": "zh-CN"}}
    with voters.serving(folder) as server:
        pages = {kind: browser.new_context(**options).new_page() for kind, options in kinds.items()}
        for page in pages.values():
            page.set_default_timeout(120_000)  # the machine may be busy
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda said: problems.append(said.text) if "Security" in said.text else None)

        def visitor(kind="desktop"):
            """Somebody new: the browser has forgotten who was here."""
            page = pages[kind]
            page.goto(server.url + "nothing")  # of the same origin, and without a script that could write again
            page.evaluate("localStorage.clear()")
            page.goto(server.url)
            return page

        for k in range(14):  # honest: keys, touch and buttons, desktop and phone, English and Chinese
            kind = list(kinds)[k % 3]
            page = visitor(kind)
            assert page.is_disabled("#begin")
            assert page.locator("html").get_attribute("lang") == ("zh-Hans" if kind == "zh" else "en")
            if k < 3:
                page.screenshot(path=screenshots / f"study-welcome-{kind}.png")
            begin(page, "yes" if k % 2 else "no")
            wait_open(page)
            if k < 3:
                page.screenshot(path=screenshots / f"study-trial-{kind}.png")
                for name in ("#left", "#right", "#choose-left", "#choose-tie", "#choose-right"):  # all in sight
                    place, size = page.locator(name).bounding_box(), page.viewport_size
                    assert place["x"] >= 0 and place["x"] + place["width"] <= size["width"]
                    assert place["y"] >= 0 and place["y"] + place["height"] <= size["height"], name
            sheet, left = sheet_of(server, page), study.length
            if k == 4:  # reloads midway, and goes on where it was
                play(page, study, sheet, honest, count=1)
                page.reload()
                wait_open(page)
                assert state(page)["position"] == 1
                left -= 1
            play(page, study, sheet, honest, count=left)
            said = [words["saved"] for words in study.texts.values()]
            until(page, lambda page=page, said=said: page.inner_text("#outcome") in said)
            if k == 0:
                page.screenshot(path=screenshots / "study-end.png")
            good += 1

        for _ in range(2):  # hammer a key: one answer a pair, and none from a key that is held
            page = visitor()
            begin(page)
            wait_open(page)
            page.evaluate("for (let k = 0; k < 60; k++) document.dispatchEvent("
                          "new KeyboardEvent('keydown', {key: 'ArrowLeft', repeat: k % 2 === 1}))")
            assert state(page)["position"] == 1
        for _ in range(2):  # fail the attention checks
            page = visitor()
            begin(page)
            play(page, study, sheet_of(server, page), lambda left, right: "tie")
        for _ in range(2):  # close midway
            page = visitor()
            begin(page)
            play(page, study, sheet_of(server, page), honest, count=1)
        page = visitor()  # another tab of the same browser: no second participant, no double votes
        begin(page)
        sheet = sheet_of(server, page)
        twin = page.context.new_page()
        twin.set_default_timeout(120_000)
        twin.goto(server.url)
        wait_open(twin)
        play(page, study, sheet, honest, count=1)
        before = len(box.ballots(folder, study))
        twin.keyboard.press("Space")  # on a pair that the first tab has answered
        twin.wait_for_timeout(500)
        wait_open(twin)
        play(twin, study, sheet, honest, count=study.length - server.box.place(state(twin)["participant"]).answered)
        until(twin, lambda: server.box.place(state(twin)["participant"]).answered == study.length)
        twin.close()
        assert len(box.ballots(folder, study)) == before
        good += 1
        for text in ("<script>alert(1)</script>", "'; DROP TABLE votes; --"):  # through the page's own storage
            page = visitor()
            begin(page)
            wait_open(page)
            page.evaluate("text => { const key = Object.keys(localStorage)[0]; const state = "
                          "JSON.parse(localStorage[key]); state.queue = [{position: 0, left: text, right: text, "
                          "choice: text, ms: 900}]; state.position = 1; localStorage[key] = JSON.stringify(state); }",
                          text)
            page.reload()
            page.wait_for_selector("#notice:not([hidden])")
            assert "<script" not in page.inner_html("#notice")
        for _ in range(5):  # programs: too fast, doubles
            program = voters.Voter(server.server_address[1], study)
            assert program.join() == 200
            for _ in range(study.length):
                _, left, right = program.sheet[program.answered]
                assert program.vote(honest(left, right), ms=20) == 200
                assert program.vote("tie", ms=9, position=0) == 409
            assert program.answered == study.length
        for page in pages.values():
            page.context.close()

    assert [text for text in problems if text] == []
    cast = box.ballots(folder, study)
    assert len(cast) >= 28
    reasons = [excluded(study, ballot, QUICK) for ballot in cast]
    assert reasons.count("") == good
    assert reasons.count("checks") == 2
    assert reasons.count("too fast") == 5
    result = tally([folder], QUICK)
    assert [rank.method for rank in result.ranking] == list(voters.METHODS)
    assert result.counted == good
    assert result.votes == good * (study.length - study.checks)


def test_the_page_alone_hands_back_files(browser, built, tmp_path):
    """From file://, without a network: honest, edited by hand, and by hand with a new seal."""
    study = built.study
    requests, saved = [], []
    for k in range(2):
        context = browser.new_context(accept_downloads=True, locale=("en-US", "zh-CN")[k])
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: requests.append(request.url))
        page.goto((built.folder / "page.html").as_uri())
        begin(page)
        wait_open(page)
        sheet = state(page)["sheet"]
        play(page, study, sheet, voters.wise(study), count=1)
        page.reload()  # nothing is lost
        play(page, study, sheet, voters.wise(study), count=study.length - 1)
        page.wait_for_selector("#end:not([hidden])")
        with page.expect_download() as download:
            page.click("#save-file")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        saved.append(path)
        context.close()
    assert {url.split(":")[0] for url in requests} <= {"file", "data", "blob"}
    good, refused, _ = ballots.read_all(saved, study)
    assert len(good) == 2 and refused == []  # the page's SHA-256 is hashlib's
    record = json.loads(saved[0].read_text())
    choice = record["answers"][0]["choice"]
    record["answers"][0]["choice"] = "right" if choice == "left" else "left"
    saved[0].write_text(json.dumps(record))
    good, refused, _ = ballots.read_all(saved, study)
    assert len(good) == 1
    assert "seal" in refused[0].reason


def test_nothing_that_leaves_the_folder_tells_the_method(built):
    text = (built.folder / "page.html").read_text("utf-8")
    held = [path for path in (built.folder / "pictures").iterdir()]
    told = text + " ".join(path.name for path in held)
    assert not re.search(r"alpha|beta|gamma|secret|p\d\.png|study\.json|\bm\d\b/", told)
    assert not any(b"secret" in path.read_bytes() for path in held)
