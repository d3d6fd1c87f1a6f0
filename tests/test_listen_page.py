"""The page itself, in headless Chromium."""

from __future__ import annotations

import re

import browser
import numpy as np
import pytest
from listen_server import FakeSound, FakeSounds, running
from listen_voter import study

from mgen.listen.server import ListeningServer
from mgen.listen.vote_store import VoteStore
from mgen.render.audio import SAMPLE_RATE, wav

pytestmark = pytest.mark.slow

READY = ".clips:not(.waiting)"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(1)</script>"


class Tones(FakeSounds):
    """A second of a tone, the two an octave apart; the first tenth is the same to the page."""

    def __call__(self, pair):
        time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        low, high = (wav((0.1 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)) for hertz in (220, 440))
        return FakeSound(low, high, 1.0, 0.1)


@pytest.fixture(scope="module")
def chromium():
    with browser.launch() as running_browser:
        yield running_browser


@pytest.fixture
def store(tmp_path):
    opened = VoteStore.open(tmp_path / "votes.sqlite", study(4))
    yield opened
    opened.close()


@pytest.fixture
def address(store):
    with running(ListeningServer(store, Tones(), hosts={"127.0.0.1"}).app) as port:
        yield f"http://127.0.0.1:{port}/"


def enter(page, address, name="Ann"):
    page.goto(address)
    page.wait_for_selector("#welcome:not([hidden])")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.wait_for_selector(READY)


def play(page, side, key):
    page.keyboard.press(key)
    page.wait_for_selector(f'.clip[data-side="{side}"] .status:text("✓ played")')


def vote(page, key, count):
    play(page, "a", "1")
    play(page, "b", "b")
    page.keyboard.press(key)
    page.wait_for_selector(f'#progress[aria-valuenow="{count}"]', state="attached")


def test_a_session_by_keyboard_with_a_reload_and_a_second_thought(chromium, address, store):
    with browser.tab(chromium) as tab:
        page = tab.page
        enter(page, address, "Ann Lee")
        assert page.inner_text("#count") == "1 of 4" and page.inner_text("#who") == "Ann Lee"
        vote(page, "ArrowLeft", 1)
        page.wait_for_selector(READY)
        page.reload()
        page.wait_for_selector(READY)
        assert page.inner_text("#count") == "2 of 4"
        vote(page, "k", 2)
        page.wait_for_selector(READY)
        page.keyboard.press("u")
        page.wait_for_selector('#count:text("2 of 4")')  # shown before the sounds are there
        page.wait_for_selector(READY)
        vote(page, "t", 2)
        page.wait_for_selector(READY)
        vote(page, "ArrowRight", 3)
        page.wait_for_selector(READY)
        vote(page, "j", 4)
        page.wait_for_selector("#done:not([hidden])")
        assert "All 4 pairs are answered" in page.inner_text("#thanks")
        page.reload()
        page.wait_for_selector("#done:not([hidden])")
        tab.assert_quiet()
        addresses = tab.requests
    assert [preference.choice for preference in store.preferences()] == ["a", "tie", "b", "a"]
    assert all(0.5 < min(preference.seconds_a, preference.seconds_b) < 1.1 for preference in store.preferences())
    assert store.counts()["appended"] == 6
    assert all(
        re.search(r"/(api/(state|rater|pair|vote|sound/[\w-]{22})|page\.\w+)?$|^blob:|^data:", a) for a in addresses
    )


def test_no_cue_in_the_page(chromium, address):
    """What the page holds of A and of B is the same but for the letter and the name of the sound."""
    with browser.tab(chromium) as tab:
        enter(tab.page, address)
        html = tab.page.content()
        clips = [tab.page.inner_html(f'.clip[data-side="{side}"]') for side in "ab"]
        assert re.sub(r"\bB\b", "A", clips[1]) == clips[0]
        assert not re.search(r"\breal\b|\bmodel\b|\bwork\b|prompt \d|\.mid|\.wav", html)
        stored = tab.page.evaluate("JSON.stringify({...localStorage}) + document.cookie + document.title")
        assert not re.search(r"real|model|work|prompt", stored)


def test_both_must_be_played(chromium, address, store):
    with browser.tab(chromium) as tab:
        page = tab.page
        enter(page, address)
        page.keyboard.press("ArrowLeft")
        assert "Please listen to A and B first" in page.inner_text("#hint")
        play(page, "a", "a")
        page.click('[data-choice="b"]')
        assert "Please listen to B first" in page.inner_text("#hint")
        assert page.locator(".choices.early").count() == 1
        play(page, "b", "2")
        page.wait_for_selector("#hint:empty", state="attached")
        assert page.locator(".choices.early").count() == 0
        assert store.counts()["appended"] == 0


def test_one_plays_at_a_time_and_pauses(chromium, address):
    with browser.tab(chromium) as tab:
        page = tab.page
        enter(page, address)
        for key, expected in (("1", "a"), ("2", "b"), (" ", ""), (" ", "b")):
            page.keyboard.press(key)
            for side in "ab":
                page.wait_for_selector(
                    f'.clip[data-side="{side}"]' + (".playing" if side == expected else ":not(.playing)")
                )
        tab.assert_quiet()


def test_a_vote_survives_a_server_that_is_away(chromium, store):
    """The page sends it again until it is acknowledged, also after it was closed in between."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with browser.tab(chromium) as tab:
        page = tab.page
        with running(ListeningServer(store, Tones(), hosts={"127.0.0.1"}).app, listener):
            enter(page, f"http://127.0.0.1:{port}/")
            play(page, "a", "1")
            play(page, "b", "2")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#trouble:not([hidden])")
        assert "No vote is lost" in page.inner_text("#trouble") and store.counts()["appended"] == 0
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        with running(ListeningServer(store, Tones(), hosts={"127.0.0.1"}).app, listener):  # without the old sessions
            page.wait_for_selector('#count:text("2 of 4")', timeout=15000)
            page.wait_for_selector(READY)
            assert page.is_hidden("#trouble")
    assert [preference.choice for preference in store.preferences()] == ["b"] and store.counts()["appended"] == 1


def test_a_name_and_a_question_are_text(chromium, tmp_path):
    from dataclasses import replace

    store = VoteStore.open(tmp_path / "votes.sqlite", replace(study(4), question=HOSTILE))
    with running(ListeningServer(store, Tones(), hosts={"127.0.0.1"}).app) as port, browser.tab(chromium) as tab:
        enter(tab.page, f"http://127.0.0.1:{port}/", HOSTILE)
        assert tab.page.inner_text("#who") == HOSTILE and tab.page.inner_text("#question") == HOSTILE
        assert tab.page.locator("img").count() == 0 and tab.page.locator("script").count() == 1
        tab.assert_quiet()
    store.close()


def test_the_token_is_asked_for_and_leaves_the_address(chromium, store):
    with running(ListeningServer(store, Tones(), "a-long-token", {"127.0.0.1"}).app) as port:
        address = f"http://127.0.0.1:{port}/"
        with browser.tab(chromium) as tab:
            tab.page.goto(f"{address}#token=a-long-token")
            tab.page.wait_for_selector("#welcome:not([hidden])")
            assert tab.page.url == address
            assert tab.page.evaluate("document.cookie") == ""  # HttpOnly
            tab.page.reload()
            tab.page.wait_for_selector("#welcome:not([hidden])")
        with browser.tab(chromium) as tab:
            tab.page.goto(address)
            tab.page.wait_for_selector("#gate:not([hidden])")
            assert tab.page.is_hidden("#listen") and "Which?" not in tab.page.content()
            tab.page.keyboard.type("wrong-token")
            tab.page.keyboard.press("Enter")
            tab.page.wait_for_selector('#gate .wrong:text("This is not the token.")')
            tab.page.fill("#token", "a-long-token")
            tab.page.keyboard.press("Enter")
            tab.page.wait_for_selector("#welcome:not([hidden])")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "dark"), (320, "light")])
def test_it_can_be_read_and_reached_everywhere(chromium, address, width, scheme):
    with browser.tab(chromium, width=width, color_scheme=scheme, reduced_motion="reduce") as tab:
        page = tab.page
        page.goto(address)
        page.wait_for_selector("#welcome:not([hidden])")
        assert browser.overflow(page) == 0 and browser.contrasts(page) == []
        enter(page, address, "A" * 60)
        assert browser.overflow(page) == 0 and browser.contrasts(page) == []
        sizes = page.evaluate(
            "[...document.querySelectorAll('.play, .choice')].map(e => e.getBoundingClientRect())"
            ".map(box => Math.min(box.width, box.height))"
        )
        assert min(sizes) >= 48
        assert browser.heading_problems(page) == [] and browser.unnamed(page) == []
        reached = browser.focus_order(page)
        names = {"Play A", "Play B", "A is better", "No preference", "B is better", "Position in A"}
        assert names <= {step["name"] for step in reached}
        assert all(step["outline"] >= 2 and step["inside"] for step in reached)
        tab.assert_quiet()
