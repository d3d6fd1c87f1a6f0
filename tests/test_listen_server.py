from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from html_page import Page
from listen_server import Client, FakeSounds, running
from listen_voter import study

from mgen.errors import MgenError
from mgen.listen import connections
from mgen.listen.server import MAX_BODY, ListeningServer
from mgen.listen.vote_store import VoteStore

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent
TOKEN = "a-token-nobody-guesses"


@pytest.fixture
def store(tmp_path):
    opened = VoteStore.open(tmp_path / "votes.sqlite", study(6))
    yield opened
    opened.close()


@pytest.fixture
def sounds():
    return FakeSounds()


@pytest.fixture
def port(store, sounds):
    with running(ListeningServer(store, sounds, hosts={"127.0.0.1", "localhost"}).app) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server, and its votes file, for tests whose every request is refused: its port and its store."""
    opened = VoteStore.open(tmp_path_factory.mktemp("shared") / "votes.sqlite", study(6))
    with running(ListeningServer(opened, FakeSounds(), hosts={"127.0.0.1", "localhost"}).app) as found:
        yield found, opened
    opened.close()


@pytest.fixture
def guarded(store, sounds):
    """A server that asks for a token."""
    with running(ListeningServer(store, sounds, TOKEN, {"127.0.0.1"}).app) as found:
        yield found


def vote(pair, choice, key, **more):
    return {"id": key, "place": pair["place"], "choice": choice, "seconds_a": 3.5, "seconds_b": 4, **more}


# --------------------------------------------------------------------------------------------------------- a session


def test_a_rater_votes_through_all_pairs_and_comes_back(port, store):
    ann = Client(port).enter("Ann")
    sounds = {}
    for i in range(6):
        pair = ann.get("/api/pair").json
        assert (pair["done"], pair["total"], pair["place"]) == (i, 6, i)
        sounds[i] = ann.get(f"/api/sound/{pair['a']}").body, ann.get(f"/api/sound/{pair['b']}").body
        if i == 3:  # closed, and opened on another device
            ann = Client(port).enter("  ann ")
            assert ann.get("/api/pair").json["place"] == 3
        answer = ann.post("/api/vote", vote(pair, "a", f"vote000{i}"))
        assert answer.status == 200 and answer.json == {"done": i + 1, "total": 6, "undo": i}
    assert ann.get("/api/pair").json == {"done": 6, "total": 6, "undo": 5}
    trials = {trial.place: trial for trial in store.trials(1)}
    for place, sides in sounds.items():
        names = ("model", "real ") if trials[place].swapped else ("real ", "model")
        assert sides == tuple(f"RIFF {name} {trials[place].pair:3d}".encode() for name in names)
    for preference in store.preferences():
        swapped = next(trial.swapped for trial in trials.values() if trial.pair == preference.pair)
        assert preference.preferred == int(swapped) and preference.seconds_a == 3.5


def test_undo_asks_the_pair_again(port, store):
    ann = Client(port).enter()
    pair = ann.get("/api/pair").json
    ann.post("/api/vote", vote(pair, "b", "vote0000"))
    answer = ann.post("/api/vote", vote(pair, "undo", "vote0001"))
    assert answer.json == {"done": 0, "total": 6, "undo": None}
    assert ann.get("/api/pair").json["place"] == pair["place"]
    assert store.counts()["appended"] == 2 and not store.preferences()


def test_a_vote_sent_again_is_one(port, store):
    ann = Client(port).enter()
    pair = ann.get("/api/pair").json
    for _ in range(3):
        assert ann.post("/api/vote", vote(pair, "a", "vote0000")).json["done"] == 1
    assert store.counts()["appended"] == 1


def test_the_id_of_another_vote_is_a_conflict(port, store):
    ann = Client(port).enter()
    pair = ann.get("/api/pair").json
    ann.post("/api/vote", vote(pair, "a", "vote0000"))
    for other in (vote(pair, "b", "vote0000"), vote(pair | {"place": 1}, "a", "vote0000")):
        assert ann.post("/api/vote", other).status == 409
    assert Client(port).enter("Bob").post("/api/vote", vote(pair, "a", "vote0000")).status == 409
    assert [preference.choice for preference in store.preferences()] == ["a"]


def test_a_votes_file_that_is_gone_is_said_before_anything_is_acknowledged(port, store, capsys):
    ann = Client(port).enter()
    pair = ann.get("/api/pair").json
    store.path.unlink()
    answers = [ann.post("/api/vote", vote(pair, "a", "vote0000")), Client(port).post("/api/rater", {"name": "Bob"})]
    assert [answer.status for answer in answers] == [503, 503]
    assert "votes.sqlite: was removed or replaced" in capsys.readouterr().out


def test_the_next_pair_is_made_ahead(port, sounds, store):
    Client(port).enter().get("/api/pair")
    first, second = store.trials(1)[:2]
    assert sounds.asked == [first.pair] and sounds.made_ahead == [second.pair]


def test_a_vote_that_cannot_be_written_is_not_acknowledged(port, store, monkeypatch, capsys):
    ann = Client(port).enter()
    pair = ann.get("/api/pair").json

    def full(self, vote):
        raise MgenError("/elsewhere/somebody/votes.sqlite: cannot be written (disk is full)")

    with monkeypatch.context() as patched:
        patched.setattr(VoteStore, "vote", full)
        answer = ann.post("/api/vote", vote(pair, "a", "vote0000"))
    assert answer.status == 503 and b"somebody" not in answer.body
    assert "disk is full" in capsys.readouterr().out
    assert ann.post("/api/vote", vote(pair, "a", "vote0000")).status == 200
    assert store.counts()["votes"] == 1


def test_kill_9_over_http_loses_and_doubles_no_vote(tmp_path):
    """A browser that sends its vote until it is acknowledged, and a server killed again and again."""
    path, chance = tmp_path / "votes.sqlite", random.Random(1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    kills, sent = int(os.environ.get("MGEN_HTTP_KILLS", "5")), 0
    for kill in range(kills + 1):
        server = subprocess.Popen(
            [sys.executable, str(TESTS / "listen_server.py"), str(path), str(port)], env=environment
        )
        client, end = Client(port), None
        try:
            while True:
                if end and time.monotonic() > end:
                    server.kill()
                try:
                    if not client.cookie:
                        client.enter()
                        end = time.monotonic() + chance.uniform(0, 0.1) if kill < kills else None
                    choice = ("a", "b", "tie")[sent % 3]
                    answer = client.post("/api/vote", {"id": f"vote{sent:06d}", "place": sent % 400, "choice": choice})
                except (OSError, http.client.HTTPException):
                    if server.poll() is not None:
                        break
                    time.sleep(0.02)
                    continue
                assert answer.status == 200
                sent += 1
                if kill == kills and sent % 10 == 0:
                    break
        finally:
            server.kill()
            server.wait()
    store = VoteStore.read(path)
    found = store._rows("SELECT id, place, choice FROM vote ORDER BY seq")
    store.close()
    assert found == [(f"vote{i:06d}", i % 400, ("a", "b", "tie")[i % 3]) for i in range(sent)]
    print(f"{kills} kills over HTTP, {sent} votes")


# ---------------------------------------------------------------------------------------------------------- blindness


def test_names_of_sounds_tell_nothing(port, store):
    """New for every rater, session and time of asking; no name twice, none of them of the systems or the files."""
    names = set()
    for name in ("Ann", "Ann", "Bob"):
        client = Client(port).enter(name)
        for _ in range(3):
            pair = client.get("/api/pair").json
            names |= {pair["a"], pair["b"]}
    assert len(names) == 18
    assert all(re.fullmatch(r"[\w-]{22}", name) for name in names)
    assert set(pair) == {"done", "total", "undo", "place", "a", "b", "seconds", "prompt_seconds"}


def test_nothing_but_the_samples_differs_between_the_two_sounds(port):
    client = Client(port).enter()
    pair = client.get("/api/pair").json
    first, second = (client.get(f"/api/sound/{pair[side]}") for side in "ab")
    first.headers.pop("date"), second.headers.pop("date")
    assert first.headers == second.headers and list(first.headers) == list(second.headers)
    assert first.headers["cache-control"] == "no-store" and first.headers["content-type"] == "audio/wav"
    assert not {"etag", "last-modified", "content-disposition", "server"} & set(first.headers)


def test_a_sound_is_for_its_session(port):
    ann, bob = Client(port).enter("Ann"), Client(port).enter("Bob")
    pair = ann.get("/api/pair").json
    assert ann.get(f"/api/sound/{pair['a']}").status == 200
    assert bob.get(f"/api/sound/{pair['a']}").status == 404
    assert Client(port).get(f"/api/sound/{pair['a']}").status == 401
    for _ in range(5):
        ann.get("/api/pair")
    assert ann.get(f"/api/sound/{pair['a']}").status == 404  # names do not pile up


def test_no_answer_names_a_system_prompt_work_or_file(port):
    client = Client(port)
    answers = [client.get(path) for path in ("/", "/page.js", "/page.css", "/api/state")]
    client.enter()
    pair = client.get("/api/pair")
    answers += [pair, client.get("/api/state"), client.post("/api/vote", vote(pair.json, "a", "vote0000"))]
    for answer in answers:
        text = (str(answer.headers) + answer.body.decode()).lower()
        assert not re.search(r"model|\breal\b|prompt \d|work \d|\.mid|\.sqlite|/tmp", text)


# ----------------------------------------------------------------------------------------------------------- security


@pytest.mark.parametrize(
    "path",
    [
        "/../../../etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page.js/../server.py",
        "/server.py",
        "/__init__.py",
        "/votes.sqlite",
        "/static/",
        "/api/",
        "/api/sound/",
        "/api/sound/../../page.js",
        "/api/sound/..%2f..%2fetc%2fpasswd",
        "/api/sound/%00",
        "/api/sound/C:\\Windows\\win.ini",
        "/docs",
        "/openapi.json",
        "/.git/config",
    ],
)
def test_no_file_is_served(shared, path):
    client = Client(shared[0]).enter()
    answer = client.get(path)
    assert answer.status in (400, 404) and len(answer.body) < 100
    assert b"root:" not in answer.body and b"import" not in answer.body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "127.0.0.1@evil.example"]
)
def test_another_host_is_refused(shared, host):
    """DNS rebinding: the attacker's name points here, and the browser believes that the page is the attacker's."""
    client = Client(shared[0])
    client.host = host
    for answer in (client.get("/"), client.get("/api/state"), client.post("/api/rater", {"name": "Ann"})):
        assert answer.status == 421 and b"Listening" not in answer.body


def test_own_hosts_are_known_under_any_port(port):
    """A tunnel has a port of its own."""
    for host in (f"localhost:{port}", "LOCALHOST:9000", "127.0.0.1"):
        client = Client(port)
        client.host = host
        assert client.get("/").status == 200
    client.host = "192.168.0.7"
    assert client.get("/").status == 421


def test_any_address_in_numbers_may_pass_where_told(store, sounds):
    with running(ListeningServer(store, sounds, TOKEN, {"box"}, any_address=True).app) as port:
        for host, status in (("192.168.0.7:8765", 200), ("[fe80::1]:8765", 200), ("box", 200), ("evil.example", 421)):
            client = Client(port)
            client.host = host
            assert client.get("/").status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": None}, 415),
        ({"Content_Type": "application/json; charset=utf-8", "Sec_Fetch_Site": "same-origin"}, 200),
    ],
)
def test_a_change_comes_from_our_own_page_only(port, store, headers, status):
    client = Client(port).enter()
    pair = client.get("/api/pair").json
    assert client.post("/api/vote", vote(pair, "a", "vote0000"), **headers).status == status
    assert store.counts()["appended"] == (status == 200)


def test_nothing_is_changed_by_a_get(port, store):
    client = Client(port).enter()
    for path in ("/api/vote", "/api/rater", "/api/login"):
        assert client.get(path).status == 405
    assert client.post("/api/pair", {}).status == 405


def test_the_token_is_asked_for_before_anything_else(guarded, store):
    client = Client(guarded)
    for path in ("/api/state", "/api/pair", "/api/sound/x"):
        answer = client.get(path)
        assert answer.status == 401 and answer.json["need"] == "token" and "question" not in answer.json
    for path, body in (("/api/rater", {"name": "Ann"}), ("/api/vote", {"id": "vote0000", "place": 0, "choice": "a"})):
        assert client.post(path, body).status == 401
    assert client.get(f"/api/state?token={TOKEN}").status == 401
    for wrong in ("", "a", TOKEN[:-1], TOKEN + "x", "\ud800"):
        assert client.post("/api/login", {"token": wrong}).status == 403 and not client.cookie
    assert store.counts()["raters"] == 0
    answer = client.post("/api/login", {"token": TOKEN})
    assert answer.status == 200 and TOKEN not in answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))
    before = client.cookie
    assert client.enter().get("/api/pair").status == 200
    entered, client.cookie = client.cookie, before
    assert client.get("/api/state").status == 401  # one session is replaced by the next
    client.cookie = entered[:-1] + ("a" if entered[-1] != "a" else "b")
    assert client.get("/api/pair").status == 401


def test_guessing_the_token_is_slow(guarded):
    began = time.monotonic()
    for _ in range(3):
        Client(guarded).post("/api/login", {"token": "guess"})
    assert time.monotonic() - began > 1.4


def test_a_guesser_slows_down_nobody_at_another_address(guarded):
    def guess():
        Client(guarded, address="127.0.0.2").post("/api/login", {"token": "guess"})

    guessers = [threading.Thread(target=guess) for _ in range(3)]
    began = time.monotonic()
    for guesser in guessers:
        guesser.start()
    time.sleep(0.1)
    assert Client(guarded).post("/api/login", {"token": TOKEN}).status == 200
    assert time.monotonic() - began < 0.9
    for guesser in guessers:
        guesser.join()
    assert time.monotonic() - began > 1.4  # one after the other


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.168.0.7", "192.168.0.7"),
        ("::ffff:192.168.0.7", "192.168.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_a_client_is_known_by_what_it_cannot_change(host, expected):
    assert connections.network(host) == expected


# -------------------------------------------------------------------------------------------------- slow connections


def open_socket(port, data=b""):
    raw = socket.create_connection(("127.0.0.1", port), timeout=5)
    raw.sendall(data)
    return raw


def is_closed(raw):
    try:
        return raw.recv(1 << 16) == b""
    except ConnectionError:
        return True


HEAD = b"POST /api/rater HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20\r\n"
WHOLE = b"GET /api/state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, HEAD + b"\r\n{", WHOLE + b"GET /"])
def test_a_request_that_does_not_arrive_is_cut_off(sent, store, sounds, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with running(ListeningServer(store, sounds, hosts={"127.0.0.1"}).app) as port, open_socket(port) as raw:
        began = time.monotonic()
        raw.sendall(sent)
        while sent.startswith(WHOLE) and b"study" not in raw.recv(1 << 16):
            pass  # the answer to the request before
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 3:  # a byte now and then gains no time
                raw.sendall(b"x" if sent else b"")
                time.sleep(0.05)
                raw.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    if not raw.recv(1):
                        break
        assert 0.2 < time.monotonic() - began < 2
        assert Client(port).enter().get("/api/pair").status == 200


def test_an_answer_that_is_not_read_is_cut_off(store, sounds, monkeypatch):
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 1.0)
    sounds.padding = bytes(50 << 20)  # more than the buffers of the system hold
    with running(ListeningServer(store, sounds, hosts={"127.0.0.1"}).app) as port:
        client = Client(port).enter()
        name = client.get("/api/pair").json["a"]
        head = f"GET /api/sound/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {client.cookie}\r\n\r\n"
        with open_socket(port, head.encode()) as raw:
            time.sleep(1.5)
            read = 0
            with contextlib.suppress(ConnectionError):
                while part := raw.recv(1 << 20):
                    read += len(part)
        assert read < 50 << 20


def test_an_address_that_floods_the_page_makes_room_for_whole_requests(store, sounds, monkeypatch):
    monkeypatch.setattr(connections, "ADDRESS_CONNECTIONS", 4)
    with running(ListeningServer(store, sounds, hosts={"127.0.0.1"}).app) as port, contextlib.ExitStack() as stack:
        flood = [stack.enter_context(open_socket(port, HEAD)) for _ in range(10)]
        assert Client(port).enter().get("/api/pair").status == 200
        assert all(is_closed(raw) for raw in flood[:6])
        flood[-1].setblocking(False)
        with pytest.raises(BlockingIOError):  # still open
            flood[-1].recv(1)


def test_what_is_too_long_is_not_read(port, store):
    client = Client(port).enter()
    assert client.post("/api/rater", b"{" + b" " * MAX_BODY + b"}").status == 413
    assert client.post("/api/rater", {"name": "x" * 61}).status == 400
    assert client.post("/api/rater", {"name": "x" * 600}).status == 400
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(
            f"POST /api/rater HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
            "Content-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n".encode()
            + b" " * 8000
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 413")
    assert store.counts()["raters"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"\xff\xfe",
        b"[" * 3000,
        {},
        {"id": "vote0000", "choice": "a"},
        {"id": "vote0000", "place": "0", "choice": "a"},
        {"id": "vote0000", "place": True, "choice": "a"},
        {"id": "vote0000", "place": 6, "choice": "a"},
        {"id": "vote0000", "place": -1, "choice": "a"},
        {"id": "vote0000", "place": 10**30, "choice": "a"},
        {"id": "vote0000", "place": 0, "choice": "c"},
        {"id": "vote0000", "place": 0, "choice": ["a"]},
        {"id": "short", "place": 0, "choice": "a"},
        {"id": "vote 000; --", "place": 0, "choice": "a"},
        {"id": 12345678, "place": 0, "choice": "a"},
        {"id": "v" * 65, "place": 0, "choice": "a"},
        {"id": "vote0000", "place": 0, "choice": "a", "seconds_a": -1},
        {"id": "vote0000", "place": 0, "choice": "a", "seconds_a": "3"},
        b'{"id": "vote0000", "place": 0, "choice": "a", "seconds_a": NaN}',
        b'{"id": "vote0000", "place": 0, "choice": "a", "seconds_a": 1e999}',
    ],
)
def test_what_is_no_vote_is_refused(shared, body):
    port, store = shared
    answer = Client(port).enter().post("/api/vote", body)
    assert answer.status == 400 and answer.json["error"]
    assert store.counts()["appended"] == 0


def test_every_answer_has_the_headers(port):
    client = Client(port).enter()
    answers = [client.get(path) for path in ("/", "/page.js", "/page.css", "/api/state", "/api/pair", "/none")]
    for answer in [*answers, client.post("/api/vote", b"")]:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == "'self'" and "unsafe" not in headers["content-security-policy"]


def test_the_page_stands_alone_and_has_no_script_in_it(port):
    html = Client(port).get("/").body.decode()
    page = Page(html)
    assert [attributes["src"] for attributes in page.all("script")] == ["/page.js"]
    assert not re.search(r"\son\w+=|style=|https?:", html)
    script = Client(port).get("/page.js").body.decode()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?:", script)


def test_a_rater_is_text(port, store):
    name = "<script>alert(1)</script>"
    client = Client(port).enter(name)
    pair = client.get("/api/pair").json
    client.post("/api/vote", vote(pair, "tie", "vote0000"))
    assert store.preferences()[0].rater == name
    assert b"alert(" not in client.get("/").body + client.get("/api/state").body + client.get("/api/pair").body
