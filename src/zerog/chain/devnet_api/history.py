"""Positions in history: snapshots, rollback, reorganisation, reset, and the state as a file."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from zerog.chain.devnet_api.control import METHODS, DevnetControl
from zerog.chain.methods import Data, Quantity, Uint64, decode_data, decode_uint64
from zerog.chain.sequencer import MAX_BLOCKS_PER_REQUEST
from zerog.chain.state_file import normalise, pack
from zerog.errors import InvalidParams, RpcError, ZerogError

MAX_STATE_BYTES = 4 << 30
"""The largest state that `anvil_loadState` unpacks, bytes."""


@METHODS.handler("anvil_snapshot", "evm_snapshot", "hardhat_snapshot")
async def snapshot(net: DevnetControl) -> str:
    """Marks the present chain and state; its id."""
    return hex(await net.turn(net.engine.snapshot))


@METHODS.handler("anvil_revert", "evm_revert", "hardhat_revert")
async def revert(net: DevnetControl, snapshot_id: Quantity) -> bool:
    """Back to a snapshot. The id and later ones are used up; false for an unknown one."""
    if snapshot_id >= 2**64:
        return False
    return await net.turn(lambda: net.engine.revert(snapshot_id))


def _target(net: DevnetControl, depth: int) -> int:
    height = net.engine.head().number
    if depth > height:
        raise InvalidParams(
            f"depth cannot exceed the height of the chain: current height {height}, depth {depth}"
        )
    return height - depth


@METHODS.handler("anvil_rollback", "hardhat_rollback")
async def rollback(net: DevnetControl, depth: Uint64 | None = None) -> None:
    """Drops the last ``depth`` (1) blocks and their transactions."""
    blocks = 1 if depth is None else depth
    await net.turn(lambda: net.engine.rollback(_target(net, blocks), reinject=False))


@METHODS.handler("anvil_reorg", "hardhat_reorg")
async def reorg(net: DevnetControl, depth: Any, transaction_pairs: list[Any] | None = None) -> None:
    """Replaces the last ``depth`` blocks by as many new ones.

    ``transaction_pairs`` lists ``[transaction, index]``: a raw transaction or a transaction
    object, and the new block (0 is the first) that it goes into.
    """
    if isinstance(depth, dict):
        depth, transaction_pairs = depth.get("depth"), depth.get("txBlockPairs", [])
    try:
        blocks = decode_uint64(depth)
    except ValueError as error:
        raise InvalidParams(f"invalid argument 0 (depth): expected {error}, got {depth!r:.80}") from None
    if not 1 <= blocks <= MAX_BLOCKS_PER_REQUEST:
        raise InvalidParams(
            f"invalid argument 0 (depth): expected 1 to {MAX_BLOCKS_PER_REQUEST}, got {blocks}"
        )
    placed = _placed(transaction_pairs or [], blocks)
    await net.turn(lambda: _reorganise(net, blocks, placed))


def _placed(pairs: Any, blocks: int) -> dict[int, list[Any]]:
    """Transactions by the index of their block."""
    if not isinstance(pairs, list):
        raise InvalidParams("invalid argument 1 (transactionPairs): expected an array")
    placed: dict[int, list[Any]] = {}
    for position, pair in enumerate(pairs):
        where = f"invalid argument 1 (transactionPairs[{position}])"
        if not isinstance(pair, list) or len(pair) != 2:
            raise InvalidParams(f"{where}: expected [transaction, block index]")
        transaction, index = pair
        try:
            if not isinstance(transaction, dict):
                transaction = decode_data(transaction)
            index = decode_uint64(index)
        except ValueError as error:
            raise InvalidParams(f"{where}: expected {error}") from None
        if index >= blocks:
            raise InvalidParams(f"{where}: block index {index} must be below the depth {blocks}")
        placed.setdefault(index, []).append(transaction)
    return placed


def _reorganise(net: DevnetControl, depth: int, placed: dict[int, list[Any]]) -> None:
    """Inside a turn, with automine off so that each transaction lands in its block."""
    target = _target(net, depth)
    mining = net.sequencer.mining
    net.engine.set_automine(False)
    try:
        net.engine.rollback(target, reinject=False)
        for index in range(depth):
            for transaction in placed.get(index, ()):
                raw = isinstance(transaction, str)
                net.engine.request("eth_sendRawTransaction" if raw else "eth_sendTransaction", [transaction])
            # Fresh randomness: an empty block must not get the hash of the one that it replaces.
            net.sequencer.mine_now(1, prevrandao="0x" + secrets.token_hex(32))
    finally:
        net.engine.set_automine(mining.automine)


@METHODS.handler("anvil_reset", "hardhat_reset")
async def reset(net: DevnetControl, forking: Any = None) -> None:
    """Back to the genesis block, with an empty pool and the clock of the wall."""
    if isinstance(forking, dict) and (forking.get("forking") or forking.get("jsonRpcUrl")):
        raise RpcError(-32000, "fork mode is not part of this version: reset without a URL")

    def turn() -> None:
        net.engine.reset()
        net.engine.update_controls(
            time_offset=0,
            next_timestamp=None,
            timestamp_interval=None,
            next_base_fee=None,
            next_prevrandao=None,
            impersonated=[],
        )

    await net.turn(turn)


@METHODS.handler("anvil_dumpState", "hardhat_dumpState")
async def dump_state(net: DevnetControl, preserve_historical_states: bool | None = None) -> str:
    """The state as hexadecimal of a gzip file (see docs/chain.md for its format)."""

    import tempfile

    def dump() -> str:
        with tempfile.TemporaryDirectory(prefix="zerog-") as folder:
            plain, packed = Path(folder) / "state", Path(folder) / "state.gz"
            net.engine.dump_state(plain)
            pack(plain, packed)
            return "0x" + packed.read_bytes().hex()

    return await net.blocking(dump)


@METHODS.handler("anvil_loadState", "hardhat_loadState")
async def load_state(net: DevnetControl, state: Data) -> bool:
    """Merges a dumped state: zerog's or anvil's, gzip or plain, as hexadecimal."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="zerog-") as folder:
        packed = Path(folder) / "state.bin"

        def unpack() -> Path:
            packed.write_bytes(bytes.fromhex(state[2:]))
            return normalise(packed, Path(folder) / "state", MAX_STATE_BYTES)

        try:
            plain = await net.blocking(unpack)
        except ZerogError as error:
            raise InvalidParams(f"invalid argument 0 (state): {error}") from None
        await net.turn(lambda: net.engine.load_state(plain))
    return True
