"""What a storage node reads from the contracts: `Submit` events and view calls.

The selectors are those of 0G's Flow, FixedPrice, ChunkLinearReward and PoraMine; both generations of
``submit`` emit the same event. ::

    flow = FlowContract(rpc, "0x…7100")
    flow.submissions()                   # how many
    decode_submit(log)                   # SubmitEvent
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from zerog.chain.keys import keccak256
from zerog.errors import AbiError, RpcError
from zerog.storage import layout
from zerog.storage.flow.abi import Reader, words
from zerog.storage.values import BlockMark, Submission, SubmissionNode

SUBMIT_TOPIC = "0x167ce04d2aa1981994d3a31695da0d785373335b1078cec239a1a3a2c7675555"
"""``Submit(address indexed sender, bytes32 indexed identity, uint256 submissionIndex, uint256 startPos,
uint256 length, (uint256 length, bytes tags, (bytes32 root, uint256 height)[] nodes) submission)``."""

Call = tuple[str, Sequence[Any]]


class ChainRpc(Protocol):
    """JSON-RPC of a chain. `zerog.client.transport.Transport` is one."""

    def request(self, method: str, params: Sequence[Any]) -> Any:
        """The result; raises `zerog.errors.RpcError` or `zerog.errors.TransportError`."""
        ...

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """One result per call, in order; a call that failed gives its `RpcError` as a value."""
        ...


@dataclass(frozen=True, slots=True)
class SubmitEvent:
    """A ``Submit`` log. ``sender`` is what the contract says (anybody may choose it): no proof of identity."""

    seq: int
    start: int
    sectors: int
    size: int
    tags: bytes
    nodes: tuple[SubmissionNode, ...]
    sender: bytes
    block: BlockMark
    transaction: bytes
    log_index: int

    def submission(self, origin: bytes) -> Submission:
        """The entry of the flow; ``origin`` is the account that sent the transaction, 20 bytes."""
        return Submission(
            self.seq,
            fold(self.nodes),
            self.size,
            self.start,
            self.nodes,
            self.tags,
            origin,
            self.block,
            self.transaction,
        )


def fold(nodes: Sequence[SubmissionNode]) -> bytes:
    """Root of a file from its submission nodes."""
    root = nodes[-1].root
    for node in reversed(nodes[:-1]):
        root = keccak256(node.root + root)
    return root


def identity(nodes: Sequence[SubmissionNode]) -> bytes:
    """What the event indexes a submission by."""
    return keccak256(b"".join(node.root for node in nodes))


def decode_submit(log: Mapping[str, Any]) -> SubmitEvent:
    """A log of `SUBMIT_TOPIC`; raises `AbiError` for one that no Flow contract would emit."""
    topics = [hex_bytes(topic) for topic in log["topics"]]
    if len(topics) != 3 or topics[0] != hex_bytes(SUBMIT_TOPIC):
        raise AbiError("the log is no Submit event")
    data = Reader(hex_bytes(log["data"]))
    submission = data.at(3)
    nodes = _nodes(submission)
    length, tags = submission.at(1).after_length()
    event = SubmitEvent(
        seq=data.uint(0, 64),
        start=data.uint(1),
        sectors=data.uint(2),
        size=submission.uint(0),
        tags=tags.take(length),
        nodes=nodes,
        sender=topics[1][12:],
        block=BlockMark(int(log["blockNumber"], 16), hex_bytes(log["blockHash"])),
        transaction=hex_bytes(log["transactionHash"]),
        log_index=int(log["logIndex"], 16),
    )
    if topics[2] != identity(nodes) or event.sectors != sum(1 << node.height for node in nodes):
        raise AbiError(f"the Submit event of submission {event.seq} contradicts itself")
    return event


def _nodes(submission: Reader) -> tuple[SubmissionNode, ...]:
    count, items = submission.at(2).after_length()
    if not 1 <= count <= layout.MAX_HEIGHT:
        raise AbiError(f"a submission of {count} nodes")
    nodes = tuple(SubmissionNode(items.word(2 * at), items.uint(2 * at + 1, 8)) for at in range(count))
    if any(node.height >= layout.MAX_HEIGHT for node in nodes):
        raise AbiError("a submission node is too high")
    return nodes


def hex_bytes(text: str) -> bytes:
    """Bytes of 0x-hexadecimal as a node answers it; raises `AbiError`."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except (ValueError, AttributeError):
        raise AbiError(f"{text!r:.80} is not hexadecimal") from None


class _Contract:
    """A contract at an address, read through ``eth_call``."""

    def __init__(self, rpc: ChainRpc, address: str) -> None:
        self.rpc = rpc
        self.address = address.lower()

    def call(self, selector: str, arguments: bytes = b"", *, block: str = "latest") -> Reader:
        """Return data of a view call; raises `RpcError`, and `AbiError` when no contract answers."""
        request = {"to": self.address, "data": f"0x{selector}{arguments.hex()}"}
        raw = hex_bytes(self.rpc.request("eth_call", [request, block]))
        if not raw:
            raise AbiError(f"no contract answers at {self.address}")
        return Reader(raw)


@dataclass(frozen=True, slots=True)
class MineContext:
    """What an epoch's miners work on; hashes are 32 bytes, lengths are sectors."""

    epoch: int
    mine_start: int
    flow_root: bytes
    flow_length: int
    block_digest: bytes
    digest: bytes

    @classmethod
    def read(cls, data: Reader, first: int = 0) -> MineContext:
        """From six words."""
        return cls(
            data.uint(first),
            data.uint(first + 1),
            data.word(first + 2),
            data.uint(first + 3),
            data.word(first + 4),
            data.word(first + 5),
        )


@dataclass(frozen=True, slots=True)
class EpochRange:
    """Sectors that an epoch added, from ``start`` to before ``end``, and the digest of its context."""

    start: int
    end: int
    digest: bytes


class FlowContract(_Contract):
    """Reads of the Flow contract. ``block`` is a block tag, or a number as 0x-hexadecimal."""

    def submissions(self, block: str = "latest") -> int:
        """How many submissions there are."""
        return self.call("77e19824", block=block).uint(0, 64)

    def root_at(self, seq: int, block: str = "latest") -> bytes:
        """Root of the flow after submission ``seq``; zeros for one that does not exist."""
        return self.call("6d7ad0fc", words(seq), block=block).word(0)

    def length(self, block: str = "latest") -> int:
        """Sectors of the flow, gaps included."""
        return self.call("fd54b228", block=block).uint(0)

    def first_block(self) -> int:
        """Block from which on it takes submissions."""
        return self.call("231b0268").uint(0, 64)

    def market(self) -> str:
        """Address of the market that collects the fees."""
        return self.call("80f55605").address(0)

    def epoch(self) -> int:
        """Number of the current epoch."""
        return self.call("900cf0cf").uint(0)

    def blocks_per_epoch(self) -> int:
        """Blocks of an epoch."""
        return self.call("f0682054").uint(0)

    def context(self) -> MineContext:
        """The context as it would be in the next block: ``makeContextWithResult`` as a call."""
        return MineContext.read(self.call("b464b53e"))

    def context_at(self, sector: int) -> EpochRange:
        """The epoch whose range holds the sector; raises `RpcError` when there is none yet."""
        data = self.call("31bae174", words(sector))
        return EpochRange(data.uint(0), data.uint(1), data.word(2))

    def epoch_range(self, digest: bytes) -> tuple[int, int]:
        """Sectors of the epoch with that context digest; (0, 0) for an unknown one."""
        data = self.call("7d590708", words(digest))
        return data.uint(0), data.uint(1)


class MarketContract(_Contract):
    """Reads of the FixedPrice market."""

    def price_per_sector(self) -> int:
        """Wei for one sector."""
        return self.call("61ec5082").uint(0)

    def fee(self, sectors: int) -> int:
        """Wei that a submission of that many sectors (padding included) costs."""
        return self.price_per_sector() * sectors


def explain_missing(rpc: ChainRpc, address: str, error: AbiError | RpcError) -> str:
    """Why the Flow contract did not answer, in one sentence."""
    try:
        code = rpc.request("eth_getCode", [address, "latest"])
        chain = int(rpc.request("eth_chainId", []), 16)
    except RpcError as other:
        return f"the chain's node refuses even eth_getCode: {other.message}"
    if code in ("0x", "", None):
        return f"there is no contract at {address} on chain {chain}"
    return f"the contract at {address} on chain {chain} is no 0G Flow: {error.message}"
