"""A Hugging Face Hub on 127.0.0.1, for huggingface_hub itself: repositories in memory, failures on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest
import yaml
from huggingface_hub import constants

TOKEN = "hf_" + "L0opB4ck" * 4  # of the user "me"
Files = dict[str, bytes]


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that match.

    Args:
        request: pattern of `METHOD path`.
        status: the answer, or `None`: the connection is cut in the middle of the body.
        headers: of the answer.
        times: how often.
        done: cut the answer instead, after the request was carried out.
    """

    request: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    done: bool = False


@dataclass
class Repo:
    """Branches name a commit, a commit is all its files."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Files] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: Files, message: str) -> str:
        oid = hashlib.sha1(repr((branch, sorted(files), len(self.commits))).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        self.messages.append(message)
        return oid

    def files(self, revision: str = "main") -> Files:
        return self.commits[self.branches.get(revision, revision)]


class LoopbackHub:
    """The server; `with LoopbackHub() as hub` runs it. `hub.repos`, `hub.requests` and `hub.faults` are open."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: Files = {}
        self.requests: list[str] = []  # "METHOD path status", or "cut"
        self.faults: list[Fault] = []
        self.tokens = {TOKEN: "me"}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, cache: Any) -> dict[str, str]:
        """What makes a process of its own talk to this Hub alone."""
        return {
            **{"HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"},
            **{"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"},
        }

    def use(self, monkeypatch: pytest.MonkeyPatch, cache: Any) -> list[float]:
        """Makes this process talk to this Hub alone; huggingface_hub reads the environment when it is imported.

        Returns the list of the seconds that it would have slept between its tries.
        """
        for name, value in self.environment(cache).items():
            monkeypatch.setenv(name, value)
        changed: dict[str, Any] = {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "ENDPOINT": self.url}
        changed["HUGGINGFACE_CO_URL_TEMPLATE"] = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        changed |= {"HF_TOKEN_PATH": str(cache / "token"), "HF_HUB_CACHE": str(cache / "hub")}
        for name, constant in changed.items():
            monkeypatch.setattr(constants, name, constant)
        slept: list[float] = []
        monkeypatch.setattr("time.sleep", slept.append)
        huggingface_hub.close_session()
        return slept


class Answer(Exception):
    """Ends a request."""

    def __init__(self, status: int, body: Any = None, code: str = "", **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.headers |= {"X-Error-Code": code} if code else {}


NAME = r"(?P<repo>[\w.-]+/[\w.-]+)"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Nothing goes to stderr."""

    def do_any(self) -> None:
        path, self.query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        what = f"{self.command} {unquote(path)}"
        fault = next((fault for fault in self.hub.faults if fault.times and re.search(fault.request, what)), None)
        length = int(self.headers.get("Content-Length") or 0)
        if fault:
            fault.times -= 1
        if fault and fault.status is None and not fault.done and self.command != "GET":
            self.rfile.read(length // 2)
            return self.cut(what)
        self.body = self.rfile.read(length)
        try:
            if fault and fault.status:
                raise Answer(fault.status, {"error": "made up"}, **fault.headers)
            self.route(self.command, path)
        except Answer as answer:
            self.hub.requests.append(f"{what} {answer.status}")
            self.send(answer, cut=fault is not None and fault.status is None)

    do_GET = do_HEAD = do_POST = do_PUT = do_any

    def cut(self, what: str) -> None:
        self.hub.requests.append(f"{what} cut")
        self.close_connection = True

    def send(self, answer: Answer, cut: bool) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        self.close_connection = self.close_connection or cut

    def route(self, method: str, path: str) -> None:
        for pattern, handle in ROUTES.items():
            wanted, _, rest = pattern.partition(" ")
            if method in wanted.split("|") and (found := re.fullmatch(rest, path)):
                handle(self, **{name: unquote(value) for name, value in found.groupdict().items()})
        raise Answer(404, {"error": "no such page"}, code="EntryNotFound")

    # ---- who asks, and for what ----

    def user(self) -> str:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.hub.tokens:
            raise Answer(401, {"error": "Invalid credentials in Authorization header"})
        return self.hub.tokens[token]

    def repo(self, name: str, revision: str = "main") -> tuple[Repo, str]:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.user() != name.partition("/")[0]):
            raise Answer(404, {"error": "Repository not found"}, code="RepoNotFound")
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise Answer(404, {"error": f"Invalid rev id: {revision}"}, code="RevisionNotFound")
        return repo, commit

    def writable(self, name: str, revision: str = "main") -> tuple[Repo, str]:
        if self.user() != name.partition("/")[0] and "create_pr" not in self.query:
            raise Answer(403, {"error": "You don't have the rights to write there"})
        return self.repo(name, revision)

    # ---- the pages ----

    def create(self) -> None:
        asked = json.loads(self.body)
        owner = asked.get("organization") or self.user()
        name = f"{owner}/{asked['name']}"
        if owner != self.user():
            raise Answer(403, {"error": f"You don't have the rights to create a model under the namespace {owner}"})
        if name in self.hub.repos:
            raise Answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        repo = self.hub.repos[name] = Repo(asked.get("visibility", "") == "private" or asked.get("private", False))
        repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, "initial")
        raise Answer(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def whoami(self) -> None:
        raise Answer(200, {"type": "user", "name": self.user(), "orgs": []})

    def validate_yaml(self) -> None:
        problems = problems_of(json.loads(self.body)["content"])
        raise Answer(400 if problems else 200, {"errors": [{"message": p} for p in problems], "warnings": []})

    def info(self, repo: str, revision: str = "main") -> None:
        found, commit = self.repo(repo, revision)
        siblings = [{"rfilename": name} for name in sorted(found.commits[commit])]
        raise Answer(200, {"id": repo, "sha": commit, "private": found.private, "siblings": siblings, "tags": []})

    def branch(self, repo: str, revision: str) -> None:
        found, commit = self.writable(repo)
        if revision in found.branches:
            raise Answer(409, {"error": "Reference already exists"})
        found.branches[revision] = commit
        raise Answer(200)

    def preupload(self, repo: str, revision: str) -> None:
        found, commit = self.writable(repo, revision)
        files = []
        for path in [file["path"] for file in json.loads(self.body)["files"]]:
            large, there = path.endswith((".safetensors", ".png", ".bin")), found.commits[commit].get(path)
            known = hashlib.sha256(there or b"").hexdigest() if large else oid(there)
            mode = {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            files.append({"path": path, "oid": known if there is not None else None, **mode})
        raise Answer(200, {"files": files})

    def lfs_batch(self, repo: str) -> None:
        self.writable(repo)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            up = {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}
            check = {"href": f"{self.hub.url}/lfs-verify"}
            new = wanted["oid"] not in self.hub.blobs
            objects.append({**wanted, **({"actions": {"upload": up, "verify": check}} if new else {})})
        raise Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if "Authorization" in self.headers:
            raise Answer(400, {"error": "a signed address takes no token"})
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Answer(400, {"error": "another content than announced"})
        self.hub.blobs[oid] = self.body
        raise Answer(200)

    def lfs_verify(self) -> None:
        self.user()
        asked = json.loads(self.body)
        raise Answer(200 if len(self.hub.blobs.get(asked["oid"], b"")) == asked["size"] else 404)

    def commit(self, repo: str, revision: str) -> None:
        found, parent = self.writable(repo, revision)
        files, message = dict(found.commits[parent]), ""
        for line in map(json.loads, self.body.splitlines()):
            key, value = line["key"], line["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                files.pop(value["path"])
        pull = f"refs/pr/{1 + sum(name.startswith('refs/pr/') for name in found.branches)}"
        made = found.commit(pull if "create_pr" in self.query else revision, files, message)
        answer = {"commitUrl": f"{self.hub.url}/{repo}/commit/{made}", "commitOid": made}
        page = f"{self.hub.url}/{repo}/discussions/{pull.rpartition('/')[2]}"
        raise Answer(200, answer | ({"pullRequestUrl": page} if "create_pr" in self.query else {}))

    def resolve(self, repo: str, revision: str, file: str) -> None:
        found, commit = self.repo(repo, revision)
        content = found.commits[commit].get(file)
        if content is None:
            raise Answer(404, {"error": "Entry not found"}, code="EntryNotFound")
        headers = {"ETag": f'"{oid(content)}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            start = int(asked[1])
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            raise Answer(206, content[start:], **headers)
        raise Answer(200, content, **headers)


ROUTES: dict[str, Callable[..., None]] = {
    "POST /api/repos/create": Handler.create,
    "GET /api/whoami-v2": Handler.whoami,
    "POST /api/validate-yaml": Handler.validate_yaml,
    rf"GET /api/models/{NAME}": Handler.info,
    rf"GET /api/models/{NAME}/revision/(?P<revision>[^/]+)": Handler.info,
    rf"POST /api/models/{NAME}/branch/(?P<revision>[^/]+)": Handler.branch,
    rf"POST /api/models/{NAME}/preupload/(?P<revision>[^/]+)": Handler.preupload,
    rf"POST /api/models/{NAME}/commit/(?P<revision>[^/]+)": Handler.commit,
    rf"POST /{NAME}\.git/info/lfs/objects/batch": Handler.lfs_batch,
    r"PUT /lfs/(?P<oid>\w+)": Handler.lfs_put,
    "POST /lfs-verify": Handler.lfs_verify,
    rf"GET|HEAD /{NAME}/resolve/(?P<revision>[^/]+)/(?P<file>.+)": Handler.resolve,
}


def oid(content: bytes | None) -> str | None:
    """The hash that git gives a file."""
    return None if content is None else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def problems_of(card: str) -> list[str]:
    """What the Hub's own check of a card's metadata would refuse, as far as its documentation tells."""
    block = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    data = yaml.safe_load(block[1]) if block else None
    if not isinstance(data, dict):
        return ["metadata must be a map"]
    texts = ("license", "library_name", "pipeline_tag", "base_model_relation")
    found = [f'"{name}" must be a string' for name in texts if not isinstance(data.get(name, ""), str)]
    for name in ("tags", "metrics", "datasets"):
        if not all(isinstance(item, str) for item in data.get(name, [])):
            found.append(f'"{name}" must be a list of strings')
    base = data.get("base_model")
    if base is not None and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", str(base)):
        found.append(f'"base_model" {base} must be a model on the Hub')
    for model in data.get("model-index", []):
        for result in model["results"] or ["none"]:
            whole = {"name", "type"} <= result["dataset"].keys() and "type" in result["task"]
            if not whole or not all(isinstance(m["value"], int | float) and m["type"] for m in result["metrics"]):
                found.append('"model-index" has an incomplete result')
    return found
