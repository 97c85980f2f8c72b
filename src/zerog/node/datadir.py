"""The data directory of a node: where it is, whose it is, who uses it.

Layout, format 1::

    <data dir>/
      zerog.json      identity: format, profile, chain id (written last when the chain is made)
      genesis.json    the genesis that the chain was made from, in geth's format
      accounts.json   mnemonic and path of the devnet's accounts (0600), unless they are the public ones
      lock            held by the running node
      chain/          database of the native engine
      keys/           key files of `zerog accounts`
      storage/        index and data of the storage node

The default is ``$ZEROG_HOME/<profile>``, and ``~/.local/share/zerog/<profile>`` without the
variable. A directory that holds anything else is refused and left as it is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import msgspec

from zerog.chain.genesis import Genesis, encode, parse_genesis
from zerog.chain.genesis import chain_id as genesis_chain_id
from zerog.errors import CorruptDataDir, DataDirError, DataDirLocked, ForeignDataDir, GenesisError, WrongChain

FORMAT = 1
IDENTITY = "zerog.json"
GENESIS = "genesis.json"
ACCOUNTS = "accounts.json"
LOCK = "lock"
CHAIN = "chain"
KEYS = "keys"
STORAGE = "storage"
CONFIG = "config.toml"
_OURS = frozenset({IDENTITY, GENESIS, ACCOUNTS, LOCK, CHAIN, KEYS, STORAGE, CONFIG})


class Identity(msgspec.Struct, frozen=True, rename="camel"):
    """What a data directory says about itself."""

    format: int
    profile: str
    chain_id: int


class StoredAccounts(msgspec.Struct, frozen=True, rename="camel"):
    """Where the keys of a devnet's accounts come from."""

    mnemonic: str
    derivation_path: str
    count: int


def home() -> Path:
    """The directory of all profiles: ``$ZEROG_HOME``, else ``~/.local/share/zerog``."""
    given = os.environ.get("ZEROG_HOME")
    if given:
        return Path(given).expanduser()
    share = os.environ.get("XDG_DATA_HOME")
    return (Path(share).expanduser() if share else Path.home() / ".local" / "share") / "zerog"


def default_path(profile: str) -> Path:
    """The data directory of a profile when none is given."""
    return home() / profile


def default_config() -> Path | None:
    """``config.toml`` beside the profiles, when it exists."""
    path = home() / CONFIG
    return path if path.is_file() else None


class DataDir:
    """A data directory in use: locked, with its identity checked.

    ::

        with DataDir.open(path) as directory:
            genesis = directory.genesis() or directory.create(profile, new_genesis)
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    @classmethod
    def open(cls, path: Path) -> DataDir:
        """Creates the directory if needed and locks it.

        Raises `DataDirError`: not a directory, not writable; `ForeignDataDir`: it holds files of
        something else; `DataDirLocked`: another node runs on it.
        """
        _refuse_foreign(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirError(
                f"cannot use the data directory {path}: {error.strerror}",
                hint="choose another with --data-dir, or --ephemeral",
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise DataDirLocked(
                f"the data directory {path} is in use by {who}",
                hint="stop it, choose another --data-dir, or use --ephemeral",
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return cls(path, lock)

    @property
    def chain(self) -> Path:
        """Database of the native engine."""
        return self.path / CHAIN

    @property
    def keys(self) -> Path:
        """Key files."""
        return self.path / KEYS

    def identity(self) -> Identity | None:
        """What the directory says about itself; ``None`` before `create`."""
        return read_identity(self.path)

    def genesis(self) -> Genesis | None:
        """The genesis of the stored chain; ``None`` before `create`. Raises `CorruptDataDir`."""
        identity = self.identity()
        if identity is None:
            return None
        file = self.path / GENESIS
        try:
            genesis = parse_genesis(file.read_bytes(), str(file))
            stored = genesis_chain_id(genesis, str(file))
        except (OSError, GenesisError) as error:
            reason = error.message if isinstance(error, GenesisError) else f"{file}: {error.strerror}"
            raise _corrupt(self.path, reason) from None
        if stored != identity.chain_id:
            raise _corrupt(self.path, f"{IDENTITY} says chain {identity.chain_id}, {GENESIS} says {stored}")
        return genesis

    def accounts(self) -> StoredAccounts | None:
        """The accounts that the chain was made with, unless they are the public ones."""
        file = self.path / ACCOUNTS
        try:
            return msgspec.json.decode(file.read_bytes(), type=StoredAccounts)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError):
            raise _corrupt(self.path, f"{ACCOUNTS} cannot be read") from None

    def create(self, profile: str, genesis: Genesis, accounts: StoredAccounts | None = None) -> Genesis:
        """Records the chain that this directory holds from now on."""
        _write(self.path / GENESIS, encode(genesis))
        if accounts is not None:
            _write(self.path / ACCOUNTS, msgspec.json.encode(accounts), mode=0o600)
        identity = Identity(FORMAT, profile, genesis_chain_id(genesis))
        _write(self.path / IDENTITY, msgspec.json.format(msgspec.json.encode(identity)) + b"\n")
        return genesis

    def forget(self) -> None:
        """Undoes `create`: the engine could not make the chain."""
        for name in (IDENTITY, GENESIS, ACCOUNTS):
            (self.path / name).unlink(missing_ok=True)

    def require(self, profile: str, chain_id: int | None) -> None:
        """Raises `WrongChain` when the stored chain is not the one asked for."""
        identity = self.identity()
        if identity is None:
            return
        hint = "start it with its own settings, or choose another --data-dir"
        if identity.profile != profile:
            raise WrongChain(
                f"the data directory {self.path} holds a {identity.profile} chain, not {profile}", hint=hint
            )
        if chain_id is not None and identity.chain_id != chain_id:
            raise WrongChain(
                f"the data directory {self.path} holds chain {identity.chain_id}, not {chain_id}", hint=hint
            )

    def close(self) -> None:
        """Gives the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> DataDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_identity(path: Path) -> Identity | None:
    """The identity file of a directory, without locking it. Raises `CorruptDataDir`, `ForeignDataDir`."""
    file = path / IDENTITY
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataDirError(f"cannot read {file}: {error.strerror}") from None
    try:
        identity = msgspec.json.decode(data, type=Identity)
    except msgspec.DecodeError as error:
        raise _corrupt(path, f"{IDENTITY}: {error}") from None
    if identity.format != FORMAT:
        raise ForeignDataDir(
            f"the data directory {path} has format {identity.format}; this version reads {FORMAT}",
            hint="use the version of zerog that made it, or choose another --data-dir",
        )
    return identity


@contextmanager
def existing(path: Path) -> Iterator[DataDir]:
    """Opens a directory that must hold a chain already."""
    if not path.is_dir():
        raise DataDirError(f"there is no data directory {path}", hint="`zerog chain init` makes one")
    with DataDir.open(path) as directory:
        if directory.identity() is None:
            raise DataDirError(
                f"the data directory {path} holds no chain", hint="`zerog chain init` makes one"
            )
        if not directory.chain.is_dir():
            raise _corrupt(path, f"its folder {CHAIN!r} is missing")
        yield directory


def _refuse_foreign(path: Path) -> None:
    try:
        names = {entry.name for entry in os.scandir(path)}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise DataDirError(f"{path} is a file, not a directory", hint="choose another --data-dir") from None
    except OSError as error:
        raise DataDirError(f"cannot read the data directory {path}: {error.strerror}") from None
    if IDENTITY in names:
        return
    foreign = sorted(name for name in names - _OURS if not name.endswith(".new"))
    if foreign:
        raise ForeignDataDir(
            f"{path} is not a zerog data directory: it holds {foreign[0]!r} and no {IDENTITY}",
            hint="choose an empty or new directory with --data-dir",
        )


def _corrupt(path: Path, reason: str) -> CorruptDataDir:
    return CorruptDataDir(
        f"the data directory {path} is damaged: {reason}",
        hint="restore it from a copy, or remove it to start a new chain",
    )


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes a file so that a crash leaves the old one or the new one."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
