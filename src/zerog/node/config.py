"""The settings of a node: one TOML file, every option, flags on top.

Each section is a frozen struct; its annotations carry the default, the bounds and the sentence
that `zerog config init` writes beside the option, so that the file, the checks and the docs cannot
drift apart. ::

    config = load(Path("zerog.toml"), {"rpc.port": 9545})
    config.rpc.port          # 9545

Precedence: flag, then file, then the profile, then the default here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from zerog.errors import ConfigError

DEV_MNEMONIC = "test test test test test test test test test test test junk"
"""The public phrase of the ten well-known test accounts. Its keys protect nothing."""

MAX_CONFIG_BYTES = 1 << 20
_MAX_INT = 2**63 - 1


class ChainSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rules of the chain. They matter when the genesis is made; a stored chain keeps its own."""

    chain_id: (
        Annotated[int, Meta(gt=0, le=_MAX_INT, description="chain id; the profile's when absent")] | None
    ) = None
    hardfork: Annotated[str, Meta(description="newest hard fork that is active, frontier to bpo2")] | None = (
        None
    )
    gas_limit: Annotated[int, Meta(ge=5000, le=_MAX_INT, description="gas limit of a block")] | None = None
    disable_block_gas_limit: Annotated[bool, Meta(description="blocks take any amount of gas")] = False
    base_fee: (
        Annotated[int, Meta(ge=0, le=_MAX_INT, description="base fee of the genesis block, wei")] | None
    ) = None
    timestamp: (
        Annotated[
            int,
            Meta(ge=0, le=2**40, description="time of the genesis block, UNIX seconds; now when absent"),
        ]
        | None
    ) = None
    code_size_limit: (
        Annotated[
            int,
            Meta(ge=1, le=2**24, description="largest contract code, bytes; 24576 (EIP-170) when absent"),
        ]
        | None
    ) = None
    coinbase: Annotated[
        str, Meta(pattern="^0x[0-9a-fA-F]{40}$", description="address that collects the fees")
    ] = "0x" + "00" * 20
    genesis: (
        Annotated[str, Meta(description="genesis file in geth's format instead of the devnet's own")] | None
    ) = None


class AccountSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Accounts that the devnet funds and signs for."""

    count: Annotated[int, Meta(ge=0, le=10_000, description="how many accounts")] = 10
    balance: Annotated[int, Meta(ge=0, le=10**12, description="tokens of each account")] = 10_000
    mnemonic: Annotated[str, Meta(min_length=1, description="BIP-39 phrase that the keys come from")] = (
        DEV_MNEMONIC
    )
    derivation_path: Annotated[str, Meta(description="BIP-32 path; the index of the account is appended")] = (
        "m/44'/60'/0'/0/"
    )
    auto_impersonate: Annotated[
        bool, Meta(description="eth_sendTransaction works for every address, without a key")
    ] = False


class MiningSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When blocks are made."""

    mode: Annotated[
        Literal["automine", "interval", "mixed", "manual"],
        Meta(description="automine: a block per transaction; interval; mixed: both; manual: on request"),
    ] = "automine"
    block_time: (
        Annotated[float, Meta(gt=0, le=10**9, description="seconds between blocks (interval, mixed)")] | None
    ) = None
    batch: Annotated[
        int, Meta(ge=1, le=1_000_000, description="most transactions that one automined block takes")
    ] = 1


class PoolSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of the transaction pool."""

    order: Annotated[
        Literal["fees", "fifo"],
        Meta(description="order in a block: best fee first, or first come first served"),
    ] = "fees"
    gas_price: Annotated[int, Meta(ge=0, le=_MAX_INT, description="smallest tip that is accepted, wei")] = 0
    max_pending: Annotated[int, Meta(ge=1, le=10**8, description="executable transactions kept")] = 200_000
    max_queued: Annotated[int, Meta(ge=1, le=10**8, description="transactions behind a nonce gap kept")] = (
        50_000
    )
    max_per_account: Annotated[int, Meta(ge=1, le=10**8, description="transactions of one sender kept")] = (
        100_000
    )
    max_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40, description="bytes of transactions kept")] = (
        512 << 20
    )
    max_nonce_gap: Annotated[
        int, Meta(ge=0, le=10**9, description="how far ahead of its account a nonce may be")
    ] = 100_000
    journal: Annotated[bool, Meta(description="pending transactions survive a restart")] = True
    check_balance: Annotated[bool, Meta(description="refuse transactions that the sender cannot pay")] = True


class RpcSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The JSON-RPC server, HTTP and WebSocket on one port."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port; 0 takes a free one")] = 8545
    cors: Annotated[tuple[str, ...], Meta(description="origins that a browser page may come from")] = ("*",)
    max_body: Annotated[int, Meta(ge=1024, le=1 << 30, description="largest request, bytes")] = 100 << 20
    max_batch: Annotated[int, Meta(ge=1, le=1_000_000, description="most calls in one batch")] = 1_000
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000, description="most open connections")] = 12_000
    max_result: Annotated[int, Meta(ge=1024, le=1 << 32, description="largest answer, bytes")] = 128 << 20
    max_filters: Annotated[int, Meta(ge=1, le=10**7, description="most filters alive at a time")] = 10_000
    max_subscriptions: Annotated[
        int, Meta(ge=1, le=10**6, description="most subscriptions of one WebSocket connection")
    ] = 1_000
    gas_cap: Annotated[
        int, Meta(ge=21_000, le=_MAX_INT, description="gas that eth_call and eth_estimateGas may use")
    ] = 50_000_000
    log_range: Annotated[
        int, Meta(ge=1, le=10**9, description="most blocks that one eth_getLogs may span")
    ] = 100_000
    call_timeout_ms: Annotated[
        int, Meta(ge=1, le=3_600_000, description="longest eth_call or trace, milliseconds")
    ] = 5_000
    bridge_timeout_ms: Annotated[
        int, Meta(ge=1, le=86_400_000, description="longest call of a method written in Python, milliseconds")
    ] = 120_000
    mine_wait_ms: Annotated[
        int,
        Meta(
            ge=0, le=3_600_000, description="longest wait of a sender for its automined block, milliseconds"
        ),
    ] = 10_000
    filter_ttl_secs: Annotated[
        int, Meta(ge=1, le=10**7, description="seconds after which a filter that nobody polls is forgotten")
    ] = 300
    transfer_timeout_secs: Annotated[
        int, Meta(ge=1, le=86_400, description="seconds that a request or an answer may take on the wire")
    ] = 60
    idle_timeout_secs: Annotated[
        int, Meta(ge=1, le=10**7, description="seconds after which a silent connection is closed")
    ] = 600


_PORT = (
    "further port with the same answers; absent: {}, if rpc.port is 8545 and it is free; 0 takes a free one"
)


class StorageSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The storage node beside the chain."""

    enabled: Annotated[bool, Meta(description="run the storage node")] = True
    port: Annotated[int, Meta(ge=0, le=65535, description=_PORT.format(5678))] | None = None
    shard: Annotated[
        str,
        Meta(pattern=r"^[0-9]{1,10}/[0-9]{1,10}$", description="which part of the data it keeps, id/count"),
    ] = "0/1"
    durable: Annotated[
        bool, Meta(description="wait for the disk before a segment counts as stored (power cuts)")
    ] = False
    max_bytes: (
        Annotated[
            int, Meta(ge=1 << 20, le=1 << 60, description="data kept at most, bytes; no limit when absent")
        ]
        | None
    ) = None
    pool_bytes: Annotated[
        int,
        Meta(ge=1 << 20, le=1 << 34, description="segments that may wait for their transaction, bytes"),
    ] = 64 << 20
    confirmations: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=10_000,
                description="blocks on top of one before it is followed; 0 on devnets, else 1 when absent",
            ),
        ]
        | None
    ) = None
    scrub_rate: Annotated[
        int,
        Meta(
            ge=0, le=1 << 40, description="stored bytes per second checked again in the background; 0: none"
        ),
    ] = 16 << 20
    scrub_interval: Annotated[
        float, Meta(gt=0, le=1e9, description="seconds from one round over everything stored to the next")
    ] = 3600.0
    peers: Annotated[
        tuple[str, ...], Meta(description="URLs of other storage nodes to copy from and repair from")
    ] = ()
    discover: Annotated[bool, Meta(description="peers may name further peers")] = True
    replicate: Annotated[
        bool, Meta(description="fetch everything of the own shard from the peers without being asked")
    ] = True
    download_limit: (
        Annotated[int, Meta(ge=1024, le=1 << 50, description="bytes per second fetched from peers at most")]
        | None
    ) = None
    upload_limit: (
        Annotated[int, Meta(ge=1024, le=1 << 50, description="bytes per second given to peers at most")]
        | None
    ) = None
    admin_anywhere: Annotated[
        bool, Meta(description="admin_* and miner_* methods answer to other machines, too")
    ] = False


class IndexerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The storage indexer and its gateway."""

    port: Annotated[int, Meta(ge=0, le=65535, description=_PORT.format(12345))] | None = None
    trusted: Annotated[
        tuple[str, ...],
        Meta(description="URLs of further storage nodes that clients are told of and the gateway asks"),
    ] = ()
    url: (
        Annotated[
            str, Meta(description="address of this node that clients are told; where it listens if absent")
        ]
        | None
    ) = None
    max_file: (
        Annotated[int, Meta(ge=1, le=1 << 60, description="largest file that the gateway serves, bytes")]
        | None
    ) = None


class MinerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The storage miner: proves random access to the stored data, and is paid for it."""

    enabled: Annotated[bool, Meta(description="mine with the data that the storage node keeps")] = True
    threads: Annotated[int, Meta(ge=1, le=1024, description="threads of the search, on idle priority")] = 1
    answers_per_epoch: Annotated[
        int, Meta(ge=0, le=10**6, description="answers handed in per epoch; 0 for as many as it finds")
    ] = 1
    make_blocks: Annotated[
        bool,
        Meta(description="with automine: make blocks while new data waits to be proven, else wait for them"),
    ] = True


class VerifierSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The verifiers of inferences: execute receipts again, vote, and are paid for it."""

    enabled: Annotated[bool, Meta(description="audit the receipts of this chain")] = True
    count: Annotated[
        int,
        Meta(ge=0, le=16, description="verifiers of a devnet, on its accounts from the fifth on"),
    ] = 3
    key_files: Annotated[
        tuple[str, ...],
        Meta(description="files with the keys of further verifiers, 64 hexadecimal digits each"),
    ] = ()
    engines: Annotated[
        tuple[str, ...],
        Meta(description="descriptions of the engines to audit for; the embedded one when empty"),
    ] = ()
    prepare: Annotated[
        bool,
        Meta(description="execute a receipt before its committee is drawn, so that short windows suffice"),
    ] = True
    make_blocks: Annotated[
        bool,
        Meta(description="with automine: make blocks while an audit waits for its windows"),
    ] = True
    canary_ppm: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=1_000_000,
                description="known-bad receipts laid per million seen, against lazy verifiers; "
                "by default 50,000, on a devnet 0",
            ),
        ]
        | None
    ) = None
    watch_ppm: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="receipts per million that are checked though nobody was drawn"),
    ] = 0


class KvSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The key-value node."""

    port: Annotated[int, Meta(ge=0, le=65535, description=_PORT.format(6789))] | None = None
    streams: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^(0x)?[0-9a-fA-F]{64}$")], ...],
        Meta(description="stream ids to follow; all when empty"),
    ] = ()
    key_file: (
        Annotated[
            str,
            Meta(
                description="file with a 32-byte key, raw or hexadecimal; all streams are then encrypted with it, "
                "or for its public key"
            ),
        ]
        | None
    ) = None
    give_up_after: Annotated[
        float, Meta(gt=0, description="seconds that replay waits for data before it goes on without it")
    ] = 60.0


class InferenceSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The model of the node."""

    upstream: (
        Annotated[
            str,
            Meta(
                description="base URL of an OpenAI-compatible server that runs the model; the embedded engine when absent"
            ),
        ]
        | None
    ) = None
    upstream_model: (
        Annotated[
            str, Meta(min_length=1, description="what that server calls the model; needed with upstream")
        ]
        | None
    ) = None
    upstream_key_file: (
        Annotated[str, Meta(description="file with the key for that server; no key is sent when absent")]
        | None
    ) = None
    endpoint: Annotated[
        bool,
        Meta(description="answer OpenAI's HTTP API, /v1/chat/completions and others, on the node's port"),
    ] = True
    api_key_file: (
        Annotated[
            str,
            Meta(
                description="file with API keys, one a line, of which a request must carry one; none when absent"
            ),
        ]
        | None
    ) = None
    max_requests: Annotated[
        int, Meta(ge=1, le=10_000, description="requests of the endpoint that may be under way")
    ] = 64
    models: Annotated[
        tuple[str, ...],
        Meta(
            description="further models that are served: names, model ids or weights roots of `zerog models list`"
        ),
    ] = ()
    max_loaded: Annotated[
        int, Meta(ge=1, le=64, description="models in memory at a time; the one idle longest gives way")
    ] = 4


class NodeSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the node keeps its data, and how it talks."""

    data_dir: (
        Annotated[str, Meta(description="data directory; ~/.local/share/zerog/<profile> when absent")] | None
    ) = None
    ephemeral: Annotated[bool, Meta(description="keep nothing: a throw-away chain")] = False
    sync: (
        Annotated[
            Literal["safe", "full"],
            Meta(
                description="full: fsync per block; safe: a power cut may lose the last second, never more; "
                "devnet safe, others full when absent"
            ),
        ]
        | None
    ) = None
    history_blocks: (
        Annotated[int, Meta(ge=1, le=_MAX_INT, description="blocks whose state is kept; all when absent")]
        | None
    ) = None
    max_bytes: Annotated[
        int, Meta(ge=64 << 20, le=1 << 46, description="largest size of the database, bytes")
    ] = 1 << 40
    chain_only: Annotated[bool, Meta(description="no service beside the chain")] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="what is logged to stderr")
    ] = "warning"


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of a node."""

    profile: Annotated[str, Meta(description="devnet, galileo or aristotle")] = "devnet"
    node: NodeSettings = NodeSettings()
    chain: ChainSettings = ChainSettings()
    accounts: AccountSettings = AccountSettings()
    mining: MiningSettings = MiningSettings()
    pool: PoolSettings = PoolSettings()
    rpc: RpcSettings = RpcSettings()
    storage: StorageSettings = StorageSettings()
    indexer: IndexerSettings = IndexerSettings()
    kv: KvSettings = KvSettings()
    miner: MinerSettings = MinerSettings()
    verifier: VerifierSettings = VerifierSettings()
    inference: InferenceSettings = InferenceSettings()


def load(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Settings of a file (``None``: no file) with ``overrides`` on top.

    ``overrides`` maps dotted keys (``"rpc.port"``) to values; those that are ``None`` are ignored.
    Raises `ConfigError` naming the file and the key.
    """
    raw = {} if path is None else _read(path)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    for key, value in given.items():
        _set(raw, key, value)
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise _explain(error, raw, path, given) from None
    _check_mining(config, path)
    _check_upstream(config, path)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: {error.strerror}",
            hint="`zerog config init` writes a complete one",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        inner = raw.setdefault(section, {})
        if not isinstance(inner, dict):
            return  # The conversion reports the section itself.
        raw = inner
    raw[name] = value


def _check_mining(config: Config, path: Path | None) -> None:
    mining = config.mining
    if mining.mode in ("interval", "mixed") and mining.block_time is None:
        where = "" if path is None else f"{path}: "
        raise ConfigError(
            f"{where}mining.mode is {mining.mode!r} but mining.block_time is not set",
            hint="set the seconds between blocks (--block-time)",
        )


def _check_upstream(config: Config, path: Path | None) -> None:
    settings = config.inference
    if (settings.upstream is None) != (settings.upstream_model is None):
        where = "" if path is None else f"{path}: "
        named, missing = ("upstream", "upstream_model")
        if settings.upstream is None:
            named, missing = missing, named
        raise ConfigError(
            f"{where}inference.{named} is set but inference.{missing} is not",
            hint="an upstream needs its URL and what it calls the model",
        )


def _explain(
    error: msgspec.ValidationError, raw: Mapping[str, Any], path: Path | None, given: Mapping[str, Any]
) -> ConfigError:
    """Turns msgspec's text into one that names the option, its value and its source."""
    text, _, place = str(error).partition(" - at `$")
    key = place.rstrip("`").lstrip(".")
    unknown = text.partition("unknown field `")[2].rstrip("`")
    if unknown:
        full = f"{key}.{unknown}" if key else unknown
        import difflib

        close = difflib.get_close_matches(full, [name for name, *_ in options()], 1)
        hint = f"did you mean {close[0]}?" if close else "`zerog config show` lists every option"
        return ConfigError(f"{path or 'settings'}: unknown option {full!r}", hint=hint)
    source = f"option {key}" if key in given or path is None else f"{path}: {key}"
    value: Any = raw
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    shown = "" if key == "accounts.mnemonic" or isinstance(value, dict) else f" (it is {value!r})"
    if text.startswith("Invalid enum value"):
        text = f"expected one of {', '.join(_choices(key))}"
    return ConfigError(f"{source}: {text[:1].lower()}{text[1:].replace('`', '')}{shown}")


def _choices(key: str) -> tuple[str, ...]:
    """The values that an option of a few words may have."""
    *sections, name = key.split(".")
    struct: Any = Config
    for section in sections:
        struct = get_type_hints(struct)[section]
    hint = get_type_hints(struct)[name]
    return get_args(next(arm for arm in (hint, *get_args(hint)) if get_origin(arm) is Literal))


def options() -> Iterator[tuple[str, str, Any]]:
    """Every option: dotted key, description, default."""
    yield from _options(Config, "")


def _options(struct: type[Struct], prefix: str) -> Iterator[tuple[str, str, Any]]:
    hints = get_type_hints(struct, include_extras=True)
    defaults = struct()
    for name in struct.__struct_fields__:
        hint, default = hints[name], getattr(defaults, name)
        if isinstance(default, Struct):
            yield from _options(type(default), f"{prefix}{name}.")
            continue
        if get_origin(hint) is not Annotated:
            # An optional one: Annotated[...] | None.
            hint = next((arm for arm in get_args(hint) if get_origin(arm) is Annotated), hint)
        description = next((m.description or "" for m in get_args(hint) if isinstance(m, Meta)), "")
        yield f"{prefix}{name}", description, default


def to_toml(config: Config, *, commented: bool = False) -> str:
    """The settings as TOML. ``commented``: each option with its description, defaults commented out."""
    lines: list[str] = []
    section = ""
    for key, description, default in options():
        head, _, name = key.rpartition(".")
        if head != section:
            section = head
            lines += ["", f"[{section}]"]
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if commented:
            lines.append(f"# {description}")
        if value is None:
            lines.append(f"# {name} =")
        else:
            mark = "# " if commented and value == default else ""
            lines.append(f"{mark}{name} = {_toml_value(value)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        # A JSON string is a valid TOML basic string.
        return msgspec.json.encode(value).decode()
    return repr(value)
