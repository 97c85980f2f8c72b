"""The models on this machine: added once, found by name, model id or weights root, refused when altered.

The folder holds the weights under their root and, per model, one record that says what they are::

    store = ModelStore()
    added = store.add(Path("model-Q8_0.gguf"))
    store.find("model-Q8_0").path                # …/weights/<root>.gguf
    store.verify("model-Q8_0")                   # hashes the file again

The record is written last and in one piece: a model is there or it is not, whenever the process dies. A
copy that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from zerog.contracts.genesis import CHATML
from zerog.errors import InferenceError
from zerog.inference.chat_template import MAX_TEMPLATE, ChatTemplate
from zerog.inference.gguf import read_gguf
from zerog.inference.models import DEFAULT_MODEL, ModelIdentity, id_of
from zerog.inference.prompt import Turn
from zerog.inference.weights import SMOLLM2, cache_folder
from zerog.inference.weights import find as find_default
from zerog.inference.weights_check import Progress, root_of, write_whole

RECORD_VERSION = 1
MAX_RECORD = 1 << 20
_CHUNK = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_ZERO = "0x" + "00" * 32


class SelfTestResult(msgspec.Struct, frozen=True):
    """What the check for exactness found; ``engine`` is the description of the engine that was checked."""

    passed: bool
    engine: str
    detail: str


class Record(msgspec.Struct, frozen=True):
    """One model as the store keeps it. Hashes are 0x-hexadecimal, ``size`` in bytes, context in tokens."""

    version: int
    name: str
    weights_root: str
    chat_template: str
    quantisation: str
    architecture: str
    size: int
    trained_context: int | None
    uri: str = ""
    self_test: SelfTestResult | None = None


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model of the store, or the built-in one.

    ``path`` is ``None`` when its weights are not on this machine.
    """

    model: ModelIdentity
    path: Path | None
    size: int
    architecture: str
    trained_context: int | None
    self_test: SelfTestResult | None
    built_in: bool = False

    @property
    def name(self) -> str:
        """What it is called here; not part of its identity."""
        return self.model.name

    @property
    def model_id(self) -> str:
        """0x-hexadecimal."""
        return "0x" + id_of(self.model).hex()

    @property
    def signable(self) -> bool:
        """Whether answers of it may be signed: known not to differ between generating and checking."""
        return self.built_in or (self.self_test is not None and self.self_test.passed)

    @property
    def standing(self) -> str:
        """Why it can be signed with, or why not."""
        if self.built_in:
            return "known answer, checked at every start"
        if self.self_test is None:
            return "not self-tested"
        return self.self_test.detail


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model's file is what its record says."""

    name: str
    intact: bool
    detail: str


def models_folder() -> Path:
    """Where models are kept: ``$ZEROG_MODELS``, else beside the cache of the built-in weights."""
    if configured := os.environ.get("ZEROG_MODELS"):
        return Path(configured).expanduser()
    return cache_folder().parent / "models"


class ModelStore:
    """See the module's docstring. Several processes may use one folder at the same time."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or models_folder()

    # ---------------------------------------------------------------- reading

    def list(self) -> list[StoredModel]:
        """The built-in model, then the added ones by name.

        Raises
        ------
        InferenceError : a record is damaged.
        """
        records = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        return [_built_in(), *map(self._stored, records)]

    def find(self, wanted: str | bytes) -> StoredModel:
        """The model with that name, model id or weights root (0x-hexadecimal or 32 bytes).

        Raises
        ------
        InferenceError : there is none, or a weights root fits several models.
        """
        text = "0x" + wanted.hex() if isinstance(wanted, bytes) else wanted
        models = self.list()
        key = text.lower()
        found = [m for m in models if m.name == text] or [m for m in models if m.model_id == key]
        found = found or [m for m in models if m.model.weights_root == key]
        if len(found) > 1:
            names = ", ".join(model.name for model in found)
            raise InferenceError(
                f"the weights {text} belong to several models here: {names}", hint="name one"
            )
        if not found:
            raise InferenceError(
                f"there is no model {text!r} on this machine",
                hint=f"known are {', '.join(m.name for m in models)}; add one: zerog models add FILE.gguf",
            )
        return found[0]

    def weights(self, model: StoredModel) -> Path:
        """Where the weights are; raises `InferenceError` when they are missing."""
        if model.path is None:
            raise InferenceError(
                f"the weights of {model.name} are not on this machine",
                hint="run: zerog infer fetch" if model.built_in else "add them again: zerog models add",
            )
        return model.path

    def verify(self, model: StoredModel, progress: Progress | None = None) -> Verdict:
        """Hashes the weights again, whatever they look like."""
        if model.path is None:
            return Verdict(model.name, False, "the weights are missing")
        try:
            found = "0x" + root_of(model.path, progress, always=True).hex()
        except InferenceError as error:
            return Verdict(model.name, False, error.message)
        if found != model.model.weights_root:
            return Verdict(model.name, False, f"the root is {found} instead of {model.model.weights_root}")
        return Verdict(model.name, True, f"{model.size} bytes, root {found}")

    # ---------------------------------------------------------------- changing

    def add(
        self,
        source: Path,
        name: str | None = None,
        *,
        template: str | None = None,
        link: bool = False,
        uri: str = "",
        progress: Progress | None = None,
    ) -> StoredModel:
        """Takes a GGUF file into the store; adding the same again changes nothing.

        Parameters
        ----------
        name : what it is called here; the file's name without its ending when absent.
        template : chat template; the one in the file when absent.
        link : a hard link instead of a copy, where the file system allows it.
        uri : where others get it; goes on chain, is not part of the identity.

        Raises
        ------
        InferenceError : the file is no usable GGUF or changes meanwhile, has no template, the name is
            taken by another model, or the store cannot be written.
        """
        about = read_gguf(source)
        chosen = _checked_name(name or source.stem)
        chat = _checked_template(about.chat_template if template is None else template, source)
        quantisation = about.quantisation
        if quantisation is None:
            raise InferenceError(
                f"{source} does not say its quantisation: general.file_type is {about.values.get('general.file_type')!r}"
            )
        root = root_of(source, progress)
        record = Record(
            RECORD_VERSION, chosen, "0x" + root.hex(), chat, quantisation, about.architecture,
            about.size, about.trained_context, uri,
        )  # fmt: skip
        try:
            with self._exclusive():
                earlier = self._earlier(record)
                self._bring(source, root, link, progress)
                if earlier is None:
                    self._write(record)
        except OSError as error:
            raise InferenceError(
                f"the model store {self.folder} cannot be written: {_reason(error)}"
            ) from None
        return self.find(chosen)

    def note_self_test(self, name: str, result: SelfTestResult) -> StoredModel:
        """Keeps what the check for exactness found.

        Raises
        ------
        InferenceError : there is no such model, or the record cannot be written.
        """
        try:
            with self._exclusive():
                self._write(msgspec.structs.replace(self._read(self._record(name)), self_test=result))
        except OSError as error:
            raise InferenceError(
                f"the model store {self.folder} cannot be written: {_reason(error)}"
            ) from None
        return self.find(name)

    def remove(self, name: str) -> None:
        """Forgets a model, and its weights unless another model has the same.

        Raises
        ------
        InferenceError : there is no such model, it is built in, or the store cannot be written.
        """
        model = self.find(name)
        if model.built_in:
            raise InferenceError(f"{model.name} is built in and cannot be removed")
        try:
            with self._exclusive():
                self._record(model.name).unlink(missing_ok=True)
                shared = any(m.model.weights_root == model.model.weights_root for m in self.list()[1:])
                if not shared:
                    self._place(bytes.fromhex(model.model.weights_root[2:])).unlink(missing_ok=True)
        except OSError as error:
            raise InferenceError(
                f"the model store {self.folder} cannot be written: {_reason(error)}"
            ) from None

    # ---------------------------------------------------------------- the folder

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _place(self, root: bytes) -> Path:
        return self.folder / "weights" / f"{root.hex()}.gguf"

    def _read(self, path: Path) -> Record:
        try:
            if path.stat().st_size > MAX_RECORD:
                raise InferenceError(f"the record {path} is too large")
            record = msgspec.json.decode(path.read_bytes(), type=Record)
        except FileNotFoundError:
            raise InferenceError(f"there is no model {path.stem!r} on this machine") from None
        except (OSError, msgspec.MsgspecError) as error:
            raise InferenceError(
                f"the record {path} is damaged: {error}", hint="delete it and add again"
            ) from None
        if record.version != RECORD_VERSION:
            raise InferenceError(f"the record {path} has version {record.version}, known is {RECORD_VERSION}")
        return record

    def _write(self, record: Record) -> None:
        write_whole(self._record(record.name), msgspec.json.format(msgspec.json.encode(record)))

    def _stored(self, path: Path) -> StoredModel:
        record = self._read(path)
        place = self._place(bytes.fromhex(record.weights_root[2:]))
        return StoredModel(
            _identity(record), place if place.is_file() else None, record.size, record.architecture,
            record.trained_context, record.self_test,
        )  # fmt: skip

    def _earlier(self, record: Record) -> Record | None:
        """The same model under the same name, if it was added before."""
        if record.name == DEFAULT_MODEL.name:
            raise InferenceError(f"{record.name} is the built-in model", hint="choose another: --name NAME")
        path = self._record(record.name)
        if not path.is_file():
            return None
        earlier = self._read(path)
        if id_of(_identity(earlier)) != id_of(_identity(record)):
            raise InferenceError(
                f"the name {record.name} belongs to another model here",
                hint=f"choose another with --name, or: zerog models remove {record.name}",
            )
        return earlier

    def _bring(self, source: Path, root: bytes, link: bool, progress: Progress | None) -> None:
        """Puts the weights into their place; what lies there is looked at again, and replaced if it is wrong."""
        target = self._place(root)
        if target.is_file() and root_of(target, progress) == root:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        if not (link and _linked(source, part)):
            _copied(source, part, progress)
        if root_of(part, progress, always=True) != root:
            # What an earlier attempt left was of another file: from the beginning, once.
            part.unlink()
            _copied(source, part, progress)
            if root_of(part, progress, always=True) != root:
                part.unlink()
                raise InferenceError(f"{source} changes while it is read")
        part.replace(target)
        _sync_folder(target.parent)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _built_in() -> StoredModel:
    path = find_default(SMOLLM2)
    return StoredModel(DEFAULT_MODEL, path, SMOLLM2.size, "llama", None, None, built_in=True)


def _identity(record: Record) -> ModelIdentity:
    return ModelIdentity(
        record.name, record.weights_root, _ZERO, record.chat_template, record.quantisation, record.uri
    )


def _checked_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InferenceError(
            f"{name!r} is no name for a model",
            hint="1 to 96 letters, digits, dots, hyphens and underscores, beginning with a letter or digit: --name",
        )
    return name


def _checked_template(template: str | None, source: Path) -> str:
    """The template, after it has rendered a question: a broken one is found now, not by a user."""
    if template is None:
        raise InferenceError(
            f"{source} holds no chat template", hint="choose one: --template chatml, or --template-file"
        )
    if len(template.encode()) > MAX_TEMPLATE:
        raise InferenceError(f"the chat template of {source} has more than {MAX_TEMPLATE} bytes")
    if template != CHATML:
        ChatTemplate(template).render([Turn("user", "Hello")])
    return template


def _linked(source: Path, target: Path) -> bool:
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            return False
        raise
    return True


def _copied(source: Path, target: Path, progress: Progress | None) -> None:
    """Copies on from where ``target`` ends; its caller compares the whole."""
    size = source.stat().st_size
    with source.open("rb") as read, target.open("ab") as write:
        if write.tell() > size:
            write.truncate(0)
        read.seek(write.seek(0, 2))
        while chunk := read.read(_CHUNK):
            write.write(chunk)
            if progress is not None:
                progress("copy", write.tell(), size)
        write.flush()
        os.fsync(write.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
