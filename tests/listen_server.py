"""The listening page on a port of this machine, and requests to it as a browser or an attacker makes them.

Run as a program, `listen_server.py FILE PORT`, it is a server to be killed.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from listen_voter import study

from mgen.listen.connections import guarded
from mgen.listen.server import ListeningServer
from mgen.listen.vote_store import VoteStore


@dataclass
class FakeSound:
    first: bytes
    second: bytes
    seconds: float = 4.0
    prompt_seconds: float = 1.0


class FakeSounds:
    """PairAudioCache that say who plays, so that a test can see who was served."""

    def __init__(self):
        self.asked, self.made_ahead, self.padding = [], [], b""

    def __call__(self, pair):
        self.asked.append(pair)
        real, model = (f"RIFF {system} {pair:3d}".encode() for system in ("real ", "model"))
        return FakeSound(real + self.padding, model + self.padding)

    def prefetch(self, pair):
        self.made_ahead.append(pair)


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """One browser: keeps its cookie, sends what a page of ours would send."""

    def __init__(self, port, host="127.0.0.1", address="127.0.0.1"):
        self.port, self.host, self.cookie, self.address = port, f"{host}:{port}", "", address

    def send(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=(self.address, 0))
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            sent = {"Host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
            if self.cookie:
                sent["Cookie"] = self.cookie
            if body is not None:
                sent["Content-Length"] = str(len(body))
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer

    def get(self, path, **headers):
        return self.send("GET", path, **headers)

    def post(self, path, body, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = {"Origin": f"http://{self.host}", "Content_Type": "application/json"}
        return self.send("POST", path, data, **own | headers)

    def enter(self, name="Ann"):
        assert self.post("/api/rater", {"name": name}).status == 200
        return self


@contextmanager
def running(app, listener=None):
    """Serves an app; gives the port."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(guarded(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    app = ListeningServer(VoteStore.open(sys.argv[1], study(400)), FakeSounds(), hosts={"127.0.0.1"}).app
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    uvicorn.Server(guarded(app)).run([listener])
