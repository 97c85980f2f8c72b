"""Chains on disk while no node runs on them: create, open, describe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from zerog.chain import genesis as genesis_format
from zerog.chain.engine import ChainEngine, Head
from zerog.chain.genesis import Genesis
from zerog.chain.profiles import profile as profile_of
from zerog.errors import DataDirError, ZerogError
from zerog.node.datadir import DataDir, existing


class ChainInfo(msgspec.Struct, frozen=True, rename="camel"):
    """What a data directory holds; ``bytes`` on disk."""

    data_dir: str
    profile: str
    chain_id: int
    hardfork: str
    genesis_hash: str
    head: Head
    bytes: int


@dataclass(frozen=True, slots=True)
class StoredChain:
    """A chain that is open and whose directory is locked."""

    directory: DataDir
    engine: ChainEngine
    genesis: Genesis


def _open_engine(directory: DataDir, profile: str, genesis: Genesis) -> ChainEngine:
    from zerog.node.config import Config

    settings = Config().node
    return ChainEngine.open(
        {
            "data_dir": str(directory.chain),
            "genesis": genesis,
            "sync": "safe",
            "history_blocks": None,
            "max_bytes": settings.max_bytes,
            "coinbase": "0x" + "00" * 20,
            "gas_limit": 0,
            "devnet": profile_of(profile).devnet_controls,
        }
    )


@contextmanager
def opened(path: Path) -> Iterator[StoredChain]:
    """Opens the chain in a directory; raises `DataDirError` and its kin."""
    with existing(path) as directory:
        genesis, identity = directory.genesis(), directory.identity()
        assert genesis is not None and identity is not None
        engine = _open_engine(directory, identity.profile, genesis)
        try:
            yield StoredChain(directory, engine, genesis)
        finally:
            engine.close()


def create(path: Path, profile: str, genesis_file: Path) -> ChainInfo:
    """Makes a chain from a genesis file; refuses a directory that holds one."""
    name = profile_of(profile).name
    genesis = genesis_format.read_genesis(genesis_file)
    with DataDir.open(path) as directory:
        if directory.identity() is not None:
            raise DataDirError(
                f"the data directory {path} already holds a chain",
                hint="choose another --data-dir, or remove it",
            )
        directory.create(name, genesis)
        try:
            engine = _open_engine(directory, name, genesis)
        except ZerogError:
            # The engine checks the whole genesis; what it refuses leaves no chain behind.
            directory.forget()
            raise
        try:
            return describe(StoredChain(directory, engine, genesis))
        finally:
            engine.close()


def describe(stored: StoredChain) -> ChainInfo:
    """What the chain is and how far it has come."""
    identity = stored.directory.identity()
    assert identity is not None
    first = stored.engine.request("eth_getBlockByNumber", ["0x0", False])
    return ChainInfo(
        data_dir=str(stored.directory.path),
        profile=identity.profile,
        chain_id=identity.chain_id,
        hardfork=genesis_format.newest_fork(stored.genesis),
        genesis_hash=first["hash"],
        head=stored.engine.head(),
        bytes=_bytes_below(stored.directory.path),
    )


def _bytes_below(path: Path) -> int:
    """Bytes that the files below ``path`` take; sparse files count what they hold."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())
