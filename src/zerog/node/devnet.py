"""One running node: engine, sequencer, server and services, started and stopped as one.

::

    with Node(config).start() as node:
        print(node.url)
        node.wait()              # until `request_stop`

Starting is ordered so that nothing is visible half done: directory, engine, sequencer, then the
server. Stopping is the reverse; it takes less than a second, because every block is durable the
moment it is committed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from zerog import __version__
from zerog.chain import genesis as genesis_format
from zerog.chain import keys
from zerog.chain.devnet_api import METHODS, DevnetControl
from zerog.chain.engine import ChainEngine, FinalizedBlock, Head
from zerog.chain.genesis import Genesis, GenesisSettings
from zerog.chain.profiles import Profile, hardfork, profile
from zerog.chain.sequencer import Mining, Mode, Sequencer
from zerog.errors import ConfigError, PortInUse, ZerogError
from zerog.node.config import DEV_MNEMONIC, Config
from zerog.node.datadir import DataDir, StoredAccounts, default_path
from zerog.node.loop import Handler, HandlerLoop
from zerog.node.ports import CUSTOMARY, explain, extra_ports, listen, urls
from zerog.node.stopping import Closers, StopRequest

if TYPE_CHECKING:
    from zerog._native import Server
    from zerog.node.services import Service, Supervisor

log = logging.getLogger("zerog.node")

UNLIMITED_GAS = 2**63 - 1
MAX_STATE_BYTES = 1 << 40
"""The largest state file that a node unpacks at its start, bytes."""
_LOG_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Ready(msgspec.Struct, frozen=True, rename="camel"):
    """What a person or a script needs to use a node: the banner as data.

    ``accounts`` carry their keys only when the phrase is public or was made by this node.
    """

    version: str
    profile: str
    chain_id: int
    hardfork: str
    mining: str
    block_time: float | None
    url: str
    ws: str
    port: int
    urls: dict[str, str]
    """Service → URL on the port where its clients look by custom, else the node's one URL."""
    services: list[str]
    """What runs beside the chain."""
    shard: str | None
    """Which part of the data the storage node keeps, id/count."""
    accounts: list[dict[str, str]]
    mnemonic: str | None
    derivation_path: str
    balance: str
    gas_limit: int
    base_fee: int
    contracts: dict[str, str]
    data_dir: str | None
    block_number: int
    block_hash: str
    genesis_hash: str


class Node:
    """A node in this process; see the module's docstring."""

    def __init__(
        self,
        config: Config,
        *,
        services: Sequence[Service] | Callable[[Node], Sequence[Service]] = (),
        on_block: Callable[[FinalizedBlock, Head], None] | None = None,
        log_blocks: bool = True,
        fresh_mnemonic: bool = False,
    ) -> None:
        """Prepares a node; nothing is opened yet.

        ``services`` run beside the chain: themselves, or what composes them for the chain that was opened.

        ``on_block`` hears of blocks while logging is on: from the start with ``log_blocks``, and
        as ``anvil_setLoggingEnabled`` says. ``fresh_mnemonic``: the phrase in ``config`` was just
        made for this chain, so it is shown, and kept in the data directory for the next start.
        """
        self.config = config
        self.profile: Profile = profile(config.profile)
        self._compose = services
        self._services: Sequence[Service] = ()
        self._on_block = on_block
        self._logging = log_blocks
        self._fresh_mnemonic = fresh_mnemonic
        self._closers = Closers()
        self._stop = StopRequest()

    def start(self) -> Node:
        """Starts the node; raises `ZerogError` and leaves nothing behind when that fails."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    # What runs.

    engine: ChainEngine
    sequencer: Sequencer
    loop: HandlerLoop
    server: Server
    urls: dict[str, str]
    control: DevnetControl
    accounts: list[keys.DevAccount]
    genesis: Genesis
    chain_id: int
    hardfork: str
    data_dir: Path | None

    @property
    def url(self) -> str:
        """The HTTP address of the JSON-RPC server."""
        return self.server.url

    @property
    def ws_url(self) -> str:
        """The WebSocket address; the port is the same."""
        return self.server.url.replace("http://", "ws://", 1)

    def _start(self) -> None:
        directory = self._open_directory()
        stored = None if directory is None else directory.genesis()
        self.accounts, source = self._derive_accounts(directory)
        self.genesis = self._genesis(stored)
        self.chain_id = genesis_format.chain_id(self.genesis)
        self.hardfork = genesis_format.newest_fork(self.genesis)
        fresh = None if stored is not None else directory
        if fresh is not None:
            fresh.create(self.profile.name, self.genesis, source)
        if stored is not None:
            self._warn_of_unfunded_accounts()
        try:
            self.engine = ChainEngine.open(self._engine_config(directory))
        except ZerogError:
            if fresh is not None:
                fresh.forget()
            raise
        self._closers.add(self.engine.close)
        self._start_sequencer()
        self._start_server()

    def _open_directory(self) -> DataDir | None:
        node = self.config.node
        self.data_dir = None
        if node.ephemeral:
            return None
        path = Path(node.data_dir).expanduser() if node.data_dir else default_path(self.profile.name)
        directory = DataDir.open(path.absolute())
        self._closers.add(directory.close)
        directory.require(self.profile.name, self.config.chain.chain_id)
        self.data_dir = directory.path
        return directory

    def _derive_accounts(
        self, directory: DataDir | None
    ) -> tuple[list[keys.DevAccount], StoredAccounts | None]:
        """The node's accounts, and what the directory should remember of them."""
        if not self.profile.devnet_controls:
            self._mnemonic, self._path = None, ""
            return [], None
        wanted = self.config.accounts
        source = StoredAccounts(wanted.mnemonic, wanted.derivation_path, wanted.count)
        stored = None if directory is None else directory.accounts()
        if stored is not None and wanted.mnemonic == DEV_MNEMONIC:
            source = stored
        # A phrase that the user brought is the user's secret: neither shown nor kept.
        known = source is stored or source.mnemonic == DEV_MNEMONIC or self._fresh_mnemonic
        self._mnemonic = source.mnemonic if known else None
        self._path = source.derivation_path
        accounts = keys.derive(source.mnemonic, source.derivation_path, source.count) if source.count else []
        return accounts, source if self._fresh_mnemonic else None

    def _genesis(self, stored: Genesis | None) -> Genesis:
        """The stored genesis, one from a file, or a new one from the settings."""
        chain = self.config.chain
        if chain.genesis is not None:
            given = genesis_format.read_genesis(Path(chain.genesis).expanduser())
            if stored is None or genesis_format.encode(given) == genesis_format.encode(stored):
                return given
            raise ConfigError(
                f"the data directory {self.data_dir} was made from another genesis than {chain.genesis}",
                hint="choose another --data-dir",
            )
        if stored is None:
            return self._new_genesis()
        if chain.hardfork is not None:
            now, wanted = genesis_format.newest_fork(stored), hardfork(chain.hardfork)
            if now != wanted:
                raise ConfigError(
                    f"the chain in {self.data_dir} has the rules of {now}, not {wanted}",
                    hint="a hard fork is chosen when a chain is made: choose another --data-dir",
                )
        return stored

    def _new_genesis(self) -> Genesis:
        from zerog.contracts import genesis_alloc

        chain, fork = self.config.chain, hardfork(self.config.chain.hardfork or self.profile.hardfork)
        chain_id = chain.chain_id or self.profile.chain_id
        settings = GenesisSettings(
            chain_id=chain_id,
            hardfork=fork,
            timestamp=int(time.time()) if chain.timestamp is None else chain.timestamp,
            gas_limit=self._gas_limit(),
            base_fee=self.profile.base_fee if chain.base_fee is None else chain.base_fee,
            accounts=tuple(account.address for account in self.accounts),
            balance=self.config.accounts.balance * genesis_format.WEI_PER_TOKEN,
            coinbase=chain.coinbase,
            gas_rules=self.profile.gas_rules,
            code_size_limit=chain.code_size_limit,
        )
        administrator = self.accounts[0].address if self.accounts else "0x" + "00" * 20
        alloc = genesis_alloc(
            chain_id,
            administrator=administrator,
            keccak256=keys.keccak256,
            mock_quotes=self.profile.devnet_controls,
        )
        return genesis_format.devnet_genesis(settings, alloc)

    def _warn_of_unfunded_accounts(self) -> None:
        funded = {address.lower() for address in self.genesis["alloc"]}
        if self.accounts and all(account.address.lower() not in funded for account in self.accounts):
            log.warning(
                "the accounts have no funds in the stored chain; give the --mnemonic that it was made with"
            )

    def _gas_limit(self) -> int:
        chain = self.config.chain
        if chain.disable_block_gas_limit:
            return UNLIMITED_GAS
        return chain.gas_limit or self.profile.gas_limit

    def _engine_config(self, directory: DataDir | None) -> dict[str, Any]:
        node, chain, pool = self.config.node, self.config.chain, self.config.pool
        return {
            "data_dir": None if directory is None else str(directory.chain),
            "genesis": self.genesis,
            "devnet": self.profile.devnet_controls,
            "sync": node.sync or self.profile.sync,
            "history_blocks": node.history_blocks,
            "max_bytes": node.max_bytes,
            "coinbase": chain.coinbase,
            "gas_limit": self._chosen_gas_limit(),
            "pool": {
                "max_pending": pool.max_pending,
                "max_queued": pool.max_queued,
                "max_per_account": pool.max_per_account,
                "max_bytes": pool.max_bytes,
                "max_nonce_gap": pool.max_nonce_gap,
                "min_tip": pool.gas_price,
                "order": pool.order,
                "journal": pool.journal and directory is not None,
                "check_balance": pool.check_balance,
            },
        }

    def _chosen_gas_limit(self) -> int:
        """Gas limit of new blocks; 0 keeps that of the stored chain."""
        chain = self.config.chain
        if chain.gas_limit is None and not chain.disable_block_gas_limit:
            return 0
        return self._gas_limit()

    def _start_sequencer(self) -> None:
        mining = self.config.mining
        self.sequencer = Sequencer(
            self.engine,
            Mining(Mode(mining.mode), mining.block_time, mining.batch),
            on_automine=self.engine.set_automine,
            on_block=self._hear_block,
        )
        if self.config.accounts.auto_impersonate:
            self.engine.update_controls(auto_impersonate=True)
        self._closers.add(self.sequencer.stop)
        self.sequencer.start()

    def _start_server(self) -> None:
        self.control = DevnetControl(
            engine=self.engine,
            sequencer=self.sequencer,
            chain_id=self.chain_id,
            hardfork=self.hardfork,
            client_version=f"zerog/v{__version__}",
            transaction_order=self.config.pool.order,
            set_logging=self._set_logging,
        )
        self._services = self._compose(self) if callable(self._compose) else self._compose
        self.loop = HandlerLoop(self._handlers())
        rpc = self.config.rpc
        settings = msgspec.structs.asdict(rpc)
        settings["accounts"] = [{"key": "0x" + account.key.hex()} for account in self.accounts]
        further = extra_ports(self.config)
        settings["listen"] = listen(further, rpc.host)
        try:
            self.server = self.engine.serve(settings, self.loop.dispatch, self.loop.names, self.loop.http)
        except PortInUse as error:
            raise explain(error, rpc, further) from error
        self._closers.add(self.server.close)
        self.urls = urls(further, self.server.listening, self.server.url)
        self.loop.start()
        self._closers.add(self.loop.stop)
        self._start_services()

    def _handlers(self) -> dict[str, Handler]:
        if not self.profile.devnet_controls:
            return {}
        handlers: dict[str, Handler] = {}
        for name in METHODS.names():
            method = METHODS.get(name)
            assert method is not None
            handlers[name] = partial(method, self.control)
        return handlers

    def _start_services(self) -> None:
        if not self._services:
            return
        from zerog.node.services import Supervisor, limits_of, routes_of

        for service in self._services:
            self.loop.add(service.methods())
            self.loop.add_routes(routes_of(service))
        self.server.set_methods(self.loop.names)
        self.server.set_routes(self.loop.routes, limits_of(self._services))
        supervisor: Supervisor = Supervisor(self._services)
        self.loop.run(supervisor.start())
        self._closers.add(lambda: self.loop.run(supervisor.stop(), 5))

    # While it runs.

    def request(self, method: str, params: list[Any]) -> Any:
        """Answers a JSON-RPC call in process, without HTTP."""
        if METHODS.get(method) is not None or method in self.loop.names:
            return self.loop.run(self.loop.call(method, params))
        return self.engine.request(method, params)

    def load_state(self, path: Path) -> None:
        """Merges a state file (zerog's or anvil's, gzip or plain) into the state."""
        import tempfile

        from zerog.chain.state_file import normalise

        with tempfile.TemporaryDirectory(prefix="zerog-") as folder:
            plain = normalise(path, Path(folder) / "state", MAX_STATE_BYTES)
            self.sequencer.run(lambda: self.engine.load_state(plain))

    def dump_state(self, path: Path) -> None:
        """Writes the state to a file: gzip if its name ends in .gz, else JSON lines."""
        from zerog.chain.state_file import pack

        fresh = path.with_name(path.name + ".new")
        self.engine.dump_state(fresh)
        if path.suffix == ".gz":
            pack(fresh, path)
            fresh.unlink()
        else:
            fresh.replace(path)

    def _hear_block(self, block: FinalizedBlock, head: Head) -> None:
        for service in self._services:
            hear = getattr(service, "new_block", None)
            if hear is not None:
                hear()
        if self._logging and self._on_block is not None:
            self._on_block(block, head)

    def _set_logging(self, on: bool) -> None:
        self._logging = on

    def ready(self) -> Ready:
        """What the banner shows."""
        from zerog.chain import predeploys
        from zerog.contracts import PREDEPLOYS

        head, alloc = self.engine.head(), {address.lower() for address in self.genesis["alloc"]}
        mining, config = self.sequencer.mining, self.config
        services = [service.name for service in self._services]
        latest = self.engine.request("eth_getBlockByNumber", ["latest", False])
        first = self.engine.request("eth_getBlockByNumber", ["0x0", False])
        named = {
            "Create2Deployer": predeploys.CREATE2_DEPLOYER,
            "Multicall3": predeploys.MULTICALL3,
            **PREDEPLOYS,
        }
        return Ready(
            version=__version__,
            profile=self.profile.name,
            chain_id=self.chain_id,
            hardfork=self.hardfork,
            mining=mining.mode.value,
            block_time=mining.interval,
            url=self.url,
            ws=self.ws_url,
            port=self.server.port,
            urls={name: self.url for name in CUSTOMARY if name in services} | self.urls,
            services=services,
            shard=config.storage.shard if "storage" in services else None,
            accounts=[
                {"address": account.address}
                | ({"privateKey": "0x" + account.key.hex()} if self._mnemonic is not None else {})
                for account in self.accounts
            ],
            mnemonic=self._mnemonic,
            derivation_path=self._path,
            balance=str(config.accounts.balance),
            gas_limit=int(latest["gasLimit"], 16),
            base_fee=int(latest.get("baseFeePerGas") or "0x0", 16),
            contracts={name: keys.checksummed(a) for name, a in named.items() if a.lower() in alloc},
            data_dir=None if self.data_dir is None else str(self.data_dir),
            block_number=head.number,
            block_hash=head.hash,
            genesis_hash=first["hash"],
        )

    # Stopping.

    def request_stop(self) -> None:
        """Ends `wait`; safe in a signal handler."""
        self._stop.set()

    def wait(self) -> None:
        """Waits until `request_stop`."""
        self._stop.wait()

    def stop(self) -> None:
        """Stops everything that was started, in reverse order; a second call does nothing."""
        self._stop.set()
        self._closers.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def log_level(config: Config) -> int:
    """The level of `logging` that ``node.log_level`` names."""
    return _LOG_LEVELS[config.node.log_level]
