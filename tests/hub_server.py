"""The Hub's HTTP interface, as far as `huggingface_hub` needs it to push and to load: on loopback, in memory.

Knows one user, `ada`, whose token is `TOKEN`. Large files go through the Git LFS batch interface, as on the Hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "ada" * 10


class Hub(ThreadingHTTPServer):
    """What was pushed, and what is to go wrong.

    Attributes:
        repos: id -> branch -> path -> bytes.
        commits: (repo, branch, summary, paths written, paths deleted), in order.
        requests: `POST /api/...` of each request.
        answers: (method, pattern of a path) -> status that is answered instead.
        lfs: whether large files go to a store of their own.
        dies_in: pattern of a path: the server breaks off in the middle of the body, and is gone.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos, self.visibility, self.large = {}, {}, {}
        self.commits, self.requests, self.answers = [], [], {}
        self.dies_in, self.dead, self.metadata_errors, self.lfs = None, False, [], True

    def handle_error(self, request, client_address):
        """A connection that was cut is what the test wants."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def answer(self, status, content=b"", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do(self):
        hub, path = self.server, urlsplit(self.path).path
        hub.requests.append(f"{self.command} {path}")
        if hub.dead:
            self.close_connection = True
            return
        if hub.dies_in and re.search(hub.dies_in, path):
            self.rfile.read(int(self.headers.get("Content-Length") or 2) // 2)
            hub.dead = self.close_connection = True
            return
        if not path.startswith("/lfs/") and self.headers.get("Authorization") not in (None, f"Bearer {TOKEN}"):
            self.body()
            self.answer(
                401, {"error": "Invalid user token."}, X_Error_Message="Invalid credentials in Authorization header"
            )
            return
        for (method, pattern), status in hub.answers.items():
            if method == self.command and re.search(pattern, path):
                self.body()
                self.answer(status, {"error": "Forbidden: no right to do this."})
                return
        for pattern, name in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                getattr(self, name)(*(group and unquote(group) for group in match.groups()))
                return
        self.body()
        self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

    do_GET = do_POST = do_PUT = do_HEAD = do

    # ------------------------------------------------------------- writing

    def create(self):
        asked = json.loads(self.body())
        repo = f"{asked['organization'] or 'ada'}/{asked['name']}"
        if not repo.startswith("ada/"):
            self.answer(403, {"error": "You don't have the rights to create a model under this namespace"})
        elif repo in self.server.repos:
            self.answer(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{repo}"})
        else:
            self.server.repos[repo] = {"main": {".gitattributes": b"*.ogg filter=lfs\n"}}
            self.server.visibility[repo] = asked.get("visibility")
            self.answer(200, {"url": f"{self.server.url}/{repo}", "id": repo})

    def branch(self, repo, branch):
        self.body()
        branches = self.server.repos[repo]
        status = 409 if branch in branches else 200
        branches.setdefault(branch, dict(branches["main"]))
        self.answer(status, {"error": "Reference already exists"} if status == 409 else {})

    def validate(self):
        asked = json.loads(self.body())
        assert asked["repoType"] == "model" and asked["content"].startswith("---\n")
        errors = self.server.metadata_errors
        self.answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def preupload(self, repo, branch):
        files = json.loads(self.body())["files"]
        there = self.server.repos[repo][branch]
        self.answer(
            200,
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if self.server.lfs and large(file["path"]) else "regular",
                        "shouldIgnore": False,
                        "oid": self.known(there, file["path"]),
                    }
                    for file in files
                ]
            },
        )

    def known(self, there, path):
        if path not in there:
            return None
        return oid(path if self.server.lfs else "", there[path])

    def batch(self, repo):
        asked = json.loads(self.body())
        assert asked["operation"] == "upload" and asked["hash_algo"] == "sha256"
        objects = []
        for entry in asked["objects"]:
            upload = {"upload": {"href": f"{self.server.url}/lfs/{entry['oid']}"}}
            known = entry["oid"] in self.server.large
            objects.append(entry | ({} if known else {"actions": upload}))
        self.answer(200, {"transfer": "basic", "objects": objects})

    def store(self, oid):
        content = self.body()
        if hashlib.sha256(content).hexdigest() != oid:
            self.answer(400, {"error": "not what was announced"})
            return
        self.server.large[oid] = content
        self.answer(200)

    def commit(self, repo, branch):
        lines = [json.loads(line) for line in self.body().splitlines()]
        assert lines[0]["key"] == "header"
        tree = dict(self.server.repos[repo][branch])
        written, deleted = [], []
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                tree[value["path"]] = self.server.large[value["oid"]]
                assert len(tree[value["path"]]) == value["size"]
            else:
                assert line["key"] == "deletedFile"
                del tree[value["path"]]
            (deleted if line["key"] == "deletedFile" else written).append(value["path"])
        self.server.repos[repo][branch] = tree
        self.server.commits.append((repo, branch, lines[0]["value"]["summary"], sorted(written), sorted(deleted)))
        oid = self.head(repo, branch)
        self.answer(200, {"commitUrl": f"{self.server.url}/{repo}/commit/{oid}", "commitOid": oid, "success": True})

    # ------------------------------------------------------------- reading

    def head(self, repo, branch):
        """The name of a commit: a hash of what is in it."""
        tree = self.server.repos[repo][branch]
        return hashlib.sha1(repr(sorted((path, oid(path, data)) for path, data in tree.items())).encode()).hexdigest()

    def tree_of(self, repo, revision):
        branches = self.server.repos.get(repo, {})
        names = [name for name in branches if revision in (name, self.head(repo, name))]
        return (branches[names[0]], self.head(repo, names[0])) if names else (None, "")

    def info(self, repo, revision="main"):
        tree, commit = self.tree_of(repo, revision)
        if tree is None:
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return
        self.answer(
            200,
            {
                "_id": "1",
                "id": repo,
                "modelId": repo,
                "sha": commit,
                "siblings": [{"rfilename": path} for path in tree],
            },
        )

    def tree(self, repo, revision, below=None):
        tree, _ = self.tree_of(repo, revision)
        found = {path: data for path, data in tree.items() if path.startswith((below or "").strip("/"))}
        if not found:
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
            return
        self.answer(
            200,
            [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                | ({"lfs": {"oid": oid(path, data), "size": len(data), "pointerSize": 1}} if large(path) else {})
                for path, data in found.items()
            ],
        )

    def resolve(self, repo, revision, path):
        tree, commit = self.tree_of(repo, revision)
        if tree is None or path not in tree:
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        self.answer(200, tree[path], ETag=f'"{oid(path, tree[path])}"', X_Repo_Commit=commit)


def large(path):
    """Whether a file goes to the store of large ones."""
    return path.endswith((".safetensors", ".ogg", ".mid"))


def oid(path, data):
    """What Git calls a file: its blob's hash, or its own where it is large."""
    if large(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


REPO = r"([\w.-]+/[\w.-]+)"
ROUTES = (
    (r"/api/repos/create", "create"),
    (r"/api/validate-yaml", "validate"),
    (rf"/api/models/{REPO}/branch/([^/]+)", "branch"),
    (rf"/api/models/{REPO}/preupload/([^/]+)", "preupload"),
    (rf"/api/models/{REPO}/commit/([^/]+)", "commit"),
    (rf"/api/models/{REPO}/tree/([^/]+)(/.*)?", "tree"),
    (rf"/api/models/{REPO}/revision/([^/]+)", "info"),
    (rf"/api/models/{REPO}", "info"),
    (rf"/{REPO}\.git/info/lfs/objects/batch", "batch"),
    (r"/lfs/([0-9a-f]{64})", "store"),
    (rf"/{REPO}/resolve/([^/]+)/(.+)", "resolve"),
)


@contextmanager
def hub_server():
    """A running Hub."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
