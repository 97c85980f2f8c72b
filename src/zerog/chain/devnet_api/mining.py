"""When blocks are made, what is in their headers, and the devnet's clock."""

from __future__ import annotations

from typing import Any

from zerog.chain.devnet_api.control import METHODS, DevnetControl
from zerog.chain.engine import Head
from zerog.chain.methods import Address, Flag, Quantity, Seconds, SignedSeconds, Uint64, Word, decode_seconds
from zerog.chain.sequencer import MAX_BLOCKS_PER_REQUEST
from zerog.errors import InvalidParams, RpcError, ZerogError


@METHODS.handler("anvil_getAutomine", "hardhat_getAutomine", "evm_getAutomine")
async def get_automine(net: DevnetControl) -> bool:
    """Whether a transaction is mined as soon as it arrives."""
    return net.sequencer.mining.automine


@METHODS.handler("anvil_setAutomine", "evm_setAutomine", "hardhat_setAutomine")
async def set_automine(net: DevnetControl, enabled: Flag) -> None:
    """Switches automine; an interval stays as it is."""
    await net.turn(lambda: net.sequencer.set_automine_now(enabled))


@METHODS.handler("anvil_getIntervalMining", "hardhat_getIntervalMining", "evm_getIntervalMining")
async def get_interval_mining(net: DevnetControl) -> float | None:
    """Seconds between blocks, or null."""
    seconds = net.sequencer.mining.interval
    return int(seconds) if seconds is not None and seconds == int(seconds) else seconds


@METHODS.handler("anvil_setIntervalMining", "evm_setIntervalMining", "hardhat_setIntervalMining")
async def set_interval_mining(net: DevnetControl, seconds: Seconds) -> None:
    """A block every ``seconds``, automine off; 0 ends it."""
    if seconds > 10**9:
        raise InvalidParams(f"invalid argument 0 (seconds): expected at most 1000000000, got {seconds}")
    await net.turn(lambda: net.sequencer.set_interval_now(seconds))


def _check_count(count: int) -> None:
    if count > MAX_BLOCKS_PER_REQUEST:
        raise InvalidParams(
            f"invalid argument 0 (blocks): expected at most {MAX_BLOCKS_PER_REQUEST}, got {count}"
        )


def mine_now(net: DevnetControl, count: int, interval: int | None = None) -> Head | None:
    """Makes blocks inside a turn; an interval moves the clock with them."""
    head = net.sequencer.mine_now(count, interval)
    if head is not None and interval is not None and count > 1:
        net.engine.update_controls(time_offset=head.timestamp - net.now())
    return head


@METHODS.handler("anvil_mine", "hardhat_mine")
async def mine(net: DevnetControl, blocks: Quantity | None = None, interval: Seconds | None = None) -> None:
    """Makes ``blocks`` blocks (1) whose timestamps are ``interval`` seconds apart."""
    count = 1 if blocks is None else blocks
    _check_count(count)
    await net.turn(lambda: mine_now(net, count, interval))


async def _mine_with_options(net: DevnetControl, options: Any) -> tuple[int, int]:
    """Mines as ``evm_mine`` describes it; the first and the last number."""
    timestamp, count = None, 1
    if isinstance(options, dict):
        unknown = sorted(set(options) - {"timestamp", "blocks"})
        if unknown:
            raise InvalidParams(f"invalid argument 0 (options): unknown field {unknown[0]!r}")
        timestamp, count = options.get("timestamp"), options.get("blocks", 1)
    else:
        timestamp = options
    try:
        timestamp = None if timestamp is None else decode_seconds(timestamp)
        count = 1 if count is None else decode_seconds(count)
    except ValueError as error:
        raise InvalidParams(f"invalid argument 0 (options): expected {error}, got {options!r:.80}") from None
    _check_count(count)

    def turn() -> tuple[int, int]:
        first = net.engine.head().number + 1
        if timestamp is not None:
            _next_timestamp(net, timestamp)
        head = mine_now(net, count)
        return first, head.number if head else first - 1

    return await net.turn(turn)


@METHODS.handler("evm_mine")
async def evm_mine(net: DevnetControl, options: Any = None) -> str:
    """Makes blocks; ``options`` is a timestamp or ``{"timestamp", "blocks"}``. Always "0x0"."""
    await _mine_with_options(net, options)
    return "0x0"


@METHODS.handler("anvil_mine_detailed", "evm_mine_detailed")
async def mine_detailed(net: DevnetControl, options: Any = None) -> list[Any]:
    """As ``evm_mine``, answering the blocks; each transaction with its output or revert reason."""
    first, last = await _mine_with_options(net, options)
    blocks = []
    for number in range(first, last + 1):
        block = await net.rpc("eth_getBlockByNumber", hex(number), True)
        for transaction in block["transactions"]:
            await _add_outcome(net, transaction)
        blocks.append(block)
    return blocks


async def _add_outcome(net: DevnetControl, transaction: dict[str, Any]) -> None:
    options = {"tracer": "callTracer", "tracerConfig": {"onlyTopCall": True}}
    try:
        trace = await net.rpc("debug_traceTransaction", transaction["hash"], options)
    except ZerogError:
        return  # The block is answered even where one transaction cannot be traced.
    transaction["output"] = trace.get("output", "0x")
    if trace.get("revertReason"):
        transaction["revertReason"] = trace["revertReason"]


# The next block's header.


@METHODS.handler("anvil_setCoinbase", "hardhat_setCoinbase", "evm_setCoinbase")
async def set_coinbase(net: DevnetControl, address: Address) -> None:
    """Who collects the fees from the next block on."""
    await net.turn(lambda: net.engine.update_controls(coinbase=address))


@METHODS.handler("anvil_setNextBlockPrevRandao", "anvil_setPrevRandao", "hardhat_setPrevRandao")
async def set_next_block_prev_randao(net: DevnetControl, prev_randao: Word) -> None:
    """PREVRANDAO of the next block."""
    await net.turn(lambda: net.engine.update_controls(next_prevrandao=prev_randao))


@METHODS.handler("anvil_setNextBlockBaseFeePerGas", "hardhat_setNextBlockBaseFeePerGas")
async def set_next_block_base_fee(net: DevnetControl, base_fee: Uint64) -> None:
    """Base fee of the next block, wei."""
    await net.turn(lambda: net.engine.update_controls(next_base_fee=base_fee))


@METHODS.handler("anvil_setBlockGasLimit", "evm_setBlockGasLimit", "hardhat_setBlockGasLimit")
async def set_block_gas_limit(net: DevnetControl, gas_limit: Uint64) -> bool:
    """Gas limit from the next block on."""
    if not 5000 <= gas_limit < 2**63:
        raise InvalidParams(f"invalid argument 0 (gasLimit): expected 5000 to 2^63-1, got {gas_limit}")
    await net.turn(lambda: net.engine.update_controls(gas_limit=gas_limit))
    return True


@METHODS.handler("anvil_setMinGasPrice", "hardhat_setMinGasPrice")
async def set_min_gas_price(net: DevnetControl, gas_price: Quantity) -> None:
    """Refused as by its peers: with EIP-1559 the base fee rules; see ``pool.gas_price`` for tips."""
    raise RpcError(-32000, "anvil_setMinGasPrice is not supported when EIP-1559 is active")


@METHODS.handler("anvil_setChainId")
async def set_chain_id(net: DevnetControl, chain_id: Uint64) -> None:
    """Refused: the chain id is part of the stored chain."""
    if chain_id != net.chain_id:
        raise RpcError(
            -32000, f"this chain has id {net.chain_id} for good; start one with --chain-id {chain_id}"
        )


# The clock.


@METHODS.handler("anvil_setTime", "evm_setTime", "hardhat_setTime")
async def set_time(net: DevnetControl, timestamp: Seconds) -> int:
    """Sets the clock; it runs on from there. Answers the seconds it moved forward, 0 for back."""

    def turn() -> int:
        before = net.engine.controls().time_offset
        offset = timestamp - net.now()
        net.engine.update_controls(time_offset=offset)
        return max(0, offset - before)

    return await net.turn(turn)


@METHODS.handler("anvil_increaseTime", "evm_increaseTime", "hardhat_increaseTime")
async def increase_time(net: DevnetControl, seconds: SignedSeconds) -> int:
    """Moves the clock; answers the seconds that it is ahead of the wall clock."""

    def turn() -> int:
        offset = net.engine.controls().time_offset
        if seconds > 0:
            # Blocks made within one second run ahead of the clock; a move starts from the newest.
            offset = max(offset, net.engine.head().timestamp - net.now())
        net.engine.update_controls(time_offset=offset + seconds)
        return offset + seconds

    return await net.turn(turn)


def _next_timestamp(net: DevnetControl, timestamp: int) -> None:
    last = net.engine.head().timestamp
    if timestamp < last:
        raise InvalidParams(f"timestamp {timestamp} is lower than that of the last block, {last}")
    net.engine.update_controls(next_timestamp=timestamp)


@METHODS.handler("anvil_setNextBlockTimestamp", "evm_setNextBlockTimestamp", "hardhat_setNextBlockTimestamp")
async def set_next_block_timestamp(net: DevnetControl, timestamp: Seconds) -> None:
    """Exact time of the next block; the clock runs on from there."""
    await net.turn(lambda: _next_timestamp(net, timestamp))


@METHODS.handler("anvil_setBlockTimestampInterval", "evm_setBlockTimestampInterval")
async def set_block_timestamp_interval(net: DevnetControl, seconds: Seconds) -> None:
    """Each block is ``seconds`` after its parent, whatever the clock says."""
    await net.turn(lambda: net.engine.update_controls(timestamp_interval=seconds))


@METHODS.handler("anvil_removeBlockTimestampInterval", "evm_removeBlockTimestampInterval")
async def remove_block_timestamp_interval(net: DevnetControl) -> bool:
    """Back to the clock; false when there was no interval."""

    def turn() -> bool:
        had = net.engine.controls().timestamp_interval is not None
        net.engine.update_controls(timestamp_interval=None)
        return had

    return await net.turn(turn)
