"""Types of the native engine (built from ``native/``).

Structured values travel as JSON text, binary ones as bytes. Calls that take longer than 20 µs release
the GIL. Every refusal is a `NativeError`.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias, final

Buffer: TypeAlias = bytes | bytearray | memoryview

version: str

class NativeError(Exception):
    """A refusal of the native engine.

    ``kind``: "datadir", "locked", "foreign_datadir", "corrupt", "wrong_chain", "genesis", "block",
    "payload", "port", "pool", "keystore", "rpc", "http", "storage", "segment" or "other". ``code`` and ``data`` are there for "rpc" only,
    ``field`` (the field at fault as the storage RPC names it, empty for a plain error) for "segment" only.
    """

    kind: str
    message: str
    code: int
    data: object
    field: str

@final
class Push:
    """Sends notifications over the WebSocket connection of one call, from any thread; never blocks."""

    closed: bool
    def send(self, notification_json: bytes) -> bool:
        """Queues one notification, a whole JSON text; False when the connection does not take it any more."""

@final
class Reply:
    """The answer to one bridged call: given once, from any thread. Dropped unanswered, the caller gets an error."""

    agent: str | None
    peer: str | None
    push: Push | None
    def resolve(self, result_json: bytes) -> None: ...
    def reject(self, code: int, message: str, data_json: bytes | None = None) -> None: ...

@final
class HttpRequest:
    """A request for a route, and the one answer to it, from any thread. Dropped without an answer, the client gets
    status 500; dropped in the middle of one, its connection breaks. Misuse is a `NativeError` of kind "http"."""

    method: str
    path: str
    """As it came: percent-encoded, not normalised."""
    query: str
    route: str
    """The prefix that covers the path."""
    headers: dict[str, str]
    body: bytes
    peer: str | None
    gone: bool
    def respond(self, status: int, headers: dict[str, str], body: Buffer | list[Buffer]) -> None: ...
    def start(self, status: int, headers: dict[str, str], length: int | None = None) -> None: ...
    def write(self, data: Buffer) -> bool:
        """Waits while the client is slow; False when it has gone."""

    def write_soon(self, data: Buffer, told: Callable[[bool], None]) -> bool | None:
        """`write` without waiting: ``None`` when the client is slow, and then ``told(taken)`` is called later, on a
        thread of the server. One piece at a time."""

    def finish(self) -> None: ...
    def abort(self) -> None: ...

@final
class Server:
    """A running server (HTTP and WebSocket on the same ports)."""

    url: str
    port: int
    listening: list[int | None]
    """Ports of ``listen`` in the configuration, in its order; ``None`` for an optional one that was taken."""
    def set_methods(self, methods: list[str]) -> None:
        """Replaces the names that ``dispatch`` answers."""

    def set_routes(self, routes: list[str], limits: dict[str, int] | None = None) -> None:
        """Replaces the path prefixes that ``http`` answers; ``limits`` bounds the bodies of some of them, in bytes."""

    def close(self) -> None: ...

def serve_alone(
    config: str,
    dispatch: Callable[[str, bytes, Reply], None],
    methods: list[str],
    http: Callable[[HttpRequest], None] | None = None,
) -> Server:
    """`Engine.serve` without a chain: only ``methods`` and the routes answer."""

@final
class Engine:
    """A chain: state, pool and blocks. Any thread may call any method; blocks are made by one thread at a time."""

    @staticmethod
    def open(config: str) -> Engine:
        """Opens or creates a chain.

        ``config``: ``{"data_dir", "genesis", "sync": "safe"|"full", "history_blocks", "max_bytes", "pool": {…},
        "coinbase", "gas_limit", "devnet"}``. ``data_dir`` belongs to the chain alone; null keeps nothing.
        ``genesis`` may be left out once the directory holds a chain. ``gas_limit`` 0 keeps the parent's.
        """

    def head(self) -> str:
        """``{"number", "hash", "stateRoot", "timestamp", "version"}``."""

    def wait_work(self, timeout_ms: int) -> str:
        """ "ready" while automine is on and a pooled transaction fits the next block, "timeout" when the time is up
        or `wake` was called, "closed"."""

    def wake(self) -> None: ...
    def next_attributes(self, now: int) -> str:
        """Attributes of the next block under the controls (camelCase object); ``now`` in UNIX seconds."""

    def propose(self, attributes: str) -> bytes: ...
    def process_proposal(self, payload: bytes) -> str | None:
        """``None`` accepts; a text says what is wrong with the payload."""

    def finalize_block(self, payload: bytes) -> str:
        """``{"number", "hash", "stateRoot", "gasUsed", "transactions", "appHash", "validatorUpdates"}``."""

    def commit(self) -> str:
        """Makes the finalized block durable and visible; the new head as in `head`."""

    def set_automine(self, on: bool) -> None: ...
    def controls(self, update: str | None = None) -> str:
        """The controls (camelCase object), after merging ``update`` into them; null clears an option."""

    def edit(self, delta: str) -> None:
        """``{"0xaddress": {"balance"?, "nonce"?, "code"?, "storage"?: {slot: value}}}`` over the accounts as they are."""

    def snapshot(self) -> int: ...
    def revert(self, id: int) -> bool:
        """False for an id that is unknown or consumed. The id and later ones are dropped; the clock goes back too."""

    def rollback(self, number: int, reinject: bool) -> None: ...
    def reset(self) -> None: ...
    def drop_transaction(self, hash: str) -> bool: ...
    def drop_all_transactions(self) -> None: ...
    def drop_sender(self, address: str) -> int: ...
    def request(self, method: str, params: str) -> str:
        """A native JSON-RPC method in process; kind "rpc" is what a client would get as error."""

    def import_blocks(self, path: str, progress: Callable[[int], None] | None = None) -> int:
        """Executes and commits the RLP blocks of a file; how many were new. An exception of ``progress`` ends it."""

    def export_blocks(self, path: str, first: int, last: int) -> int: ...
    def dump_state(self, path: str) -> None: ...
    def load_state(self, path: str) -> None: ...
    def verify_state(self) -> str:
        """``{"stateRoot", "rebuilt", "equal"}``: the root of the head, and the one rebuilt from the flat state."""

    def serve(
        self,
        config: str,
        dispatch: Callable[[str, bytes, Reply], None],
        methods: list[str],
        http: Callable[[HttpRequest], None] | None = None,
    ) -> Server:
        """Starts a server. ``dispatch(method, params_json, reply)`` runs on a thread of the server for every call of
        one of ``methods``, ``http(request)`` for every request whose path one of ``routes`` in ``config`` covers;
        both must return soon."""

    def close(self) -> None: ...

def keccak256(data: bytes) -> bytes: ...
def derive_accounts(mnemonic: str, path: str, count: int) -> list[tuple[str, bytes]]: ...
def random_mnemonic(words: int = 12) -> str: ...
def keystore_encrypt(key: bytes, password: bytes) -> str: ...
def keystore_decrypt(keystore: str, password: bytes) -> bytes: ...
def address_of(key: bytes) -> str: ...
def sign_digest(key: bytes, digest: bytes) -> bytes:
    """r ‖ s ‖ v (27 or 28), low s."""

def recover(digest: bytes, signature: bytes) -> str:
    """Strict: 65 bytes, v 27 or 28, low s."""

def recover_many(raws: list[bytes]) -> list[str | None]: ...
def eip712_digest(typed_data_json: str) -> bytes: ...
def sign_transaction(key: bytes, tx_json: str) -> bytes:
    """A complete JSON-RPC transaction object → raw bytes (blob transactions with their sidecar)."""

def state_test(path: str) -> list[str]:
    """One JSON line ``{"name", "fork", "pass", "stateRoot", "error"}`` per case and fork; so do the others."""

def block_test(path: str) -> list[str]: ...
def transaction_test(path: str) -> list[str]: ...
def trie_test(path: str) -> list[str]: ...
def rlp_test(path: str) -> list[str]: ...

# Storage kernels. Hashes are keccak-256, 32 bytes; refusals have kind "storage" unless said otherwise.

def keccak256_each(data: Buffer, length: int) -> bytes:
    """The concatenated hashes of the messages of ``length`` bytes (at least one) that lie one after the other in
    ``data``. Several are hashed side by side, in a fraction of the time of one by one."""

def merkle_root(data: Buffer, leaves: int = 0) -> bytes:
    """Root over 256-byte leaves of non-empty ``data`` (the last filled with zeros), extended with zero leaves to
    ``leaves``; an odd last node is carried up."""

def fold_roots(roots: Buffer) -> bytes:
    """Root over concatenated hashes, at least one."""

@final
class FileTree:
    """Segment roots, submission nodes and proofs of one file of 1 byte to 64 TiB. Keeps 64 bytes a segment."""

    @staticmethod
    def from_file(
        path: str,
        offset: int = 0,
        length: int | None = None,
        threads: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> FileTree:
        """Streams a file, or ``length`` bytes of it from ``offset`` on, through ``threads`` threads (0: one a
        processor). ``progress`` hears the bytes done on the calling thread; what it raises ends the work."""

    @staticmethod
    def from_bytes(data: Buffer) -> FileTree: ...
    @property
    def size(self) -> int: ...
    @property
    def root(self) -> bytes: ...
    @property
    def segment_roots(self) -> bytes:
        """Roots of the segments of the padded file, concatenated."""

    @property
    def nodes(self) -> list[tuple[bytes, int]]:
        """Root and height of the submission nodes, largest first."""

    def proof(self, index: int) -> tuple[list[bytes], list[bool]]:
        """Lemma and path of segment ``index`` of the padded file."""

@final
class FileTreeBuilder:
    """The same tree out of a stream of ``size`` bytes."""

    def __init__(self, size: int) -> None: ...
    def update(self, data: Buffer) -> None:
        """Refuses more bytes than were announced."""

    def finish(self) -> FileTree:
        """Refuses when bytes are missing. Once."""

def file_proof(segment_roots: Buffer, index: int) -> tuple[list[bytes], list[bool]]: ...
def verify_segment(
    root: bytes, file_size: int, index: int, data: Buffer, lemma: Sequence[bytes], path: Sequence[bool]
) -> bytes:
    """The root of a segment that belongs to the file; else kind "segment" with ``field`` and ``message``."""

def subtree_roots(data: Buffer, leaves: int) -> bytes:
    """All levels, bottom to top, of the perfect tree over ``leaves`` (a power of two up to 2^20) leaves of ``data``,
    extended with zeros: ``2 * leaves - 1`` hashes."""

def empty_root(height: int) -> bytes:
    """Root of a perfect tree of zeros; ``height`` from 0 to 64."""

@final
class FlowFrontier:
    """The append-only tree of the Flow contract: its length in sectors, and what is needed to go on."""

    def __init__(self, state: bytes | None = None) -> None:
        """A fresh flow of length 1, or one from its `state`."""

    @property
    def length(self) -> int: ...
    def append(self, nodes: Sequence[tuple[bytes, int]]) -> int:
        """Position of the first of the (root, height) ``nodes`` of a submission; nothing changes on a refusal."""

    def root(self) -> bytes: ...
    def state(self) -> bytes: ...

def pora_seal(data: Buffer, miner_id: bytes, context_digest: bytes, position: int) -> bytes:
    """Seals pieces of 4,096 bytes, the first of which starts at flow sector ``position``."""

def pora_unseal(sealed: Buffer, miner_id: bytes, context_digest: bytes, position: int) -> bytes: ...
def pora_scratch_pad(
    miner_id: bytes,
    nonce: bytes,
    subtask_digest: bytes,
    start: int,
    length: int,
    shard_id: int,
    shard_mask: int,
) -> tuple[bytes, bytes, bytes]:
    """Pad (16,384 bytes), pad seed (64), recall seed (32)."""

def pora_search(
    fd: int,
    available: Buffer,
    miner_id: bytes,
    subtask_digest: bytes,
    start: int,
    length: int,
    shard_id: int,
    shard_mask: int,
    target: bytes,
    nonce: bytes,
    iterations: int,
    threads: int = 1,
) -> list[tuple[bytes, int, int, bytes]]:
    """Hits (nonce, load, seal offset, hash) of the first of ``iterations`` nonces that has any.

    ``fd``: sealed data, flow load ``i`` at ``i * 262144``. ``available``: a little-endian 64-bit mask for every load
    of the range (index 0 is the load at sector ``start``), bit ``p`` for piece ``p``; the piece of sector 0 and loads
    behind the range never count. ``load`` of a hit is relative to ``start``. ``target``: largest hash that hits, 32
    bytes big-endian. Nonce ``i`` is ``nonce`` with its first 8 bytes XORed with ``i`` (little-endian). The result
    does not depend on ``threads``.
    """

def pora_verify(
    miner_id: bytes,
    nonce: bytes,
    subtask_digest: bytes,
    start: int,
    length: int,
    shard_id: int,
    shard_mask: int,
    recall_position: int,
    seal_offset: int,
    sealed_context_digest: bytes,
    sealed: Buffer,
    proof: Buffer,
    unseal: bool = True,
) -> tuple[bytes, bytes, int]:
    """Hash, recovered root and expected recall position of an answer, as the contract at 0x…0A20 computes them;
    ``proof`` is concatenated siblings."""

# Proof-of-Inference.

def receipt_slots() -> list[tuple[str, int]]:
    """Storage slots of the inference registry that the native contract at 0x…0A10 reads, by its members' names."""

def verify_quote(quote: bytes, collateral: bytes, now: int) -> tuple[int, bytes, bytes, int]:
    """Status, measurement, report data and expiry (Unix seconds) of a quote, as the native contract at 0x…0A11 judges
    it at ``now``. Raises `NativeError` of kind ``quote`` with the reason.
    """
