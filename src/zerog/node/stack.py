"""Which services run beside a chain, and how they are made.

A factory looks at the node (its chain is open, its server not yet) and gives a service, or ``None`` when the
chain or the configuration has no use for it. The order of `FACTORIES` is the order of starting; a later factory
finds the earlier services by name. To add a service, write a factory and put it in the list.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerog.errors import RpcError, ZerogError

if TYPE_CHECKING:
    from zerog.client import Client
    from zerog.inference.answer import Domain
    from zerog.inference.audit.canary import CanaryLayer
    from zerog.inference.audit.verifier import Auditor, Happening
    from zerog.inference.engine_host import EngineHost, ModelHosts, Served
    from zerog.inference.engines import Engine
    from zerog.inference.publication import StorageTranscripts
    from zerog.node.devnet import Node
    from zerog.node.services import Service
    from zerog.storage.api.node import StorageNode
    from zerog.storage.kv.content import NodeKey
    from zerog.storage.kv.service import KvService
    from zerog.storage.mining.miner import Miner
    from zerog.storage.peers import Peers
    from zerog.storage.service import StorageService
    from zerog.storage.store import FlowStore, StoreEvent
    from zerog.storage.values import Submission

FETCH_LIMIT = 30.0
"""Seconds that a segment may take to come from the peers."""
INFERENCE = "inference"
"""Folder of the inference services in a node's data directory."""
Factory = Callable[["Node", dict[str, "Service"]], "Service | None"]


class LocalRpc:
    """JSON-RPC of a node in this process, as storage reads a chain. Any thread may use it, but the event loop's."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def request(self, method: str, params: Sequence[Any]) -> Any:
        """The result; raises `RpcError`."""
        return self._node.request(method, list(params))

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """One result per call; a call that failed gives its `RpcError` as a value."""
        results: list[Any] = []
        for method, params in calls:
            try:
                results.append(self.request(method, params))
            except RpcError as error:
                results.append(error)
        return results


def inference(node: Node, running: dict[str, Service]) -> Service | None:
    """Answers prompts, on a chain whose accounts the node holds."""
    if not node.accounts:
        return None
    from zerog.inference.service import InferenceService

    def connect() -> tuple[Client, str]:
        from zerog.client import Client

        return Client(node.url), node.accounts[-1].address

    return InferenceService(
        connect,
        model_hosts(node),
        store=partial(_transcripts, node) if "storage" in running else None,
        admit=partial(_admit, node),
        book=None if node.data_dir is None else node.data_dir / INFERENCE / "answers.sqlite",
    )


def _transcripts(node: Node, client: Client, account: str) -> StorageTranscripts:
    """Where the provider publishes: this node's storage, paid for by ``account``."""
    from tempfile import mkdtemp

    from zerog.client.storage import Storage
    from zerog.inference.publication import StorageTranscripts

    payments = (
        Path(mkdtemp(prefix="zerog-payments-"))
        if node.data_dir is None
        else (node.data_dir / INFERENCE / "payments")
    )
    return StorageTranscripts(Storage(node.url, client=client, account=account, state=payments))


def model_hosts(node: Node, upstream: bool = True) -> ModelHosts:
    """The node's engines with their key; the stake is that of the node's last account.

    ``upstream``: the server that the configuration names, if it names one, in place of the embedded engine.

    Raises
    ------
    InferenceError : the configuration names a model that this machine has not, or that cannot be signed with.
    """
    from zerog.inference.engine_host import EngineHost, ModelHosts, added, embedded

    def key() -> bytes:
        from zerog.chain.keys import random_key
        from zerog.inference.signer import load_or_create
        from zerog.node.datadir import home

        ephemeral = node.config.node.ephemeral
        return random_key() if ephemeral else load_or_create(home() / "inference-signer.key")

    def standing() -> tuple[Domain, bytes]:
        from zerog.contracts import INFERENCE_REGISTRY
        from zerog.inference.answer import Domain

        domain = Domain(node.chain_id, bytes.fromhex(INFERENCE_REGISTRY[2:]))
        return domain, bytes.fromhex(node.accounts[-1].address[2:])

    load_default, announced = (_upstream(node) if upstream else None) or (embedded, None)
    hosts = [EngineHost(load_default, key, standing, announced)]
    for name in node.config.inference.models:
        served, load = added(name)
        if all(host.served.model != served.model for host in hosts):
            hosts.append(EngineHost(load, key, standing, served))
    return ModelHosts(hosts, node.config.inference.max_loaded)


def _upstream(node: Node) -> tuple[Callable[[], Engine], Served] | None:
    """The server of others that answers for the default model, if the configuration names one."""
    settings = node.config.inference
    if settings.upstream is None or settings.upstream_model is None:
        return None
    from zerog.inference.engine_host import Served
    from zerog.inference.engines import DeterminismClass
    from zerog.inference.models import DEFAULT_MODEL
    from zerog.inference.upstream import UNCONNECTED, connect

    key_file = settings.upstream_key_file
    load = partial(
        connect,
        settings.upstream,
        settings.upstream_model,
        None if key_file is None else Path(key_file).expanduser(),
    )
    return load, Served(DEFAULT_MODEL, UNCONNECTED, DeterminismClass.TOLERANT)


def _admit(node: Node, client: Client, engine: Engine) -> None:
    """Puts the engine on the registry's list; the first account of a devnet is the curator."""
    from zerog.inference.admission import admit_engine

    admit_engine(client, node.accounts[0].address, engine.description, engine.determinism)


def _embedder(host: EngineHost) -> EngineHost:
    """The engine of the embeddings route: its receipts carry key and stake of the node's engine."""
    from zerog.inference.engine_host import Served, embeddings
    from zerog.inference.engines import DeterminismClass
    from zerog.inference.models import MINILM_MODEL, ONNX_ENGINE

    return host.beside(embeddings, Served(MINILM_MODEL, ONNX_ENGINE, DeterminismClass.EXACT))


def endpoint(node: Node, running: dict[str, Service]) -> Service | None:
    """OpenAI's HTTP API over the node's engine, beside the inference service."""
    settings, inference_service = node.config.inference, running.get("inference")
    if not settings.endpoint or inference_service is None:
        return None
    from zerog.inference.endpoint import EndpointService, EndpointSettings
    from zerog.inference.service import InferenceService

    assert isinstance(inference_service, InferenceService)
    keys: tuple[str, ...] = ()
    if settings.api_key_file is not None:
        from zerog.inference.endpoint.access import load_keys

        keys = load_keys(Path(settings.api_key_file).expanduser())

    def now() -> int:
        # A devnet's clock may be ahead: receipts are judged by the time of blocks.
        return max(int(time.time()), node.engine.head().timestamp)

    return EndpointService(
        inference_service.hosts,
        EndpointSettings(keys, settings.max_requests),
        now=now,
        on_first=inference_service.wake,
        embedder=_embedder(inference_service.host),
        book=inference_service.book if inference_service.publishes else None,
    )


def storage(node: Node, running: dict[str, Service]) -> StorageService | None:
    """The storage node, on a chain that has the Flow contract."""
    from zerog.contracts import PREDEPLOYS

    settings, flow = node.config.storage, PREDEPLOYS["StorageFlow"]
    known = {address.lower() for address in node.genesis["alloc"]}
    if not settings.enabled or flow.lower() not in known:
        return None
    from zerog.storage.service import StorageOptions, StorageService

    options = StorageOptions(
        shard=settings.shard,
        durable=settings.durable,
        max_bytes=settings.max_bytes,
        confirmations=settings.confirmations,
        pool_bytes=settings.pool_bytes,
        scrub_rate=settings.scrub_rate,
        scrub_interval=settings.scrub_interval,
        admin_anywhere=settings.admin_anywhere,
    )
    return StorageService(
        lambda: LocalRpc(node),
        flow,
        storage_path(node),
        options,
        head=lambda: bytes.fromhex(node.engine.head().hash[2:]),
        peers=_peers(node, flow) if settings.peers else None,
        shutdown=node.request_stop,
    )


def _peers(node: Node, flow: str) -> Callable[[FlowStore], Peers]:
    """Makes the representative of the configured peers when the store is open."""

    def make(store: FlowStore) -> Peers:
        from zerog.storage.peers.service import PeerService, PeerSettings

        settings = node.config.storage
        options = PeerSettings(
            urls=settings.peers,
            discover=settings.discover,
            replicate=settings.replicate,
            download=settings.download_limit,
            upload=settings.upload_limit,
        )
        chain_id = int(node.request("eth_chainId", []), 16)
        return PeerService(store, options, lambda: (chain_id, flow))

    return make


def indexer(node: Node, running: dict[str, Service]) -> Service | None:
    """Indexer, gateway and replication, beside a storage node."""
    storage_service: Any = running.get("storage")
    if storage_service is None:
        return None
    from zerog.storage.front import FrontService, FrontSettings

    settings = node.config.indexer
    options = FrontSettings(settings.trusted, settings.url, settings.max_file)
    return FrontService(storage_service, lambda: node.url, options)


def storage_path(node: Node) -> Path | None:
    """Where the storage node keeps its data; ``None`` for a throw-away chain."""
    from zerog.node.datadir import STORAGE

    return None if node.data_dir is None else node.data_dir / STORAGE


def kv(node: Node, running: dict[str, Service]) -> KvService | None:
    """Streams of keys and values, replayed from the storage node's flow."""
    from zerog.storage.service import StorageService

    source, settings = running.get("storage"), node.config.kv
    if not isinstance(source, StorageService):
        return None
    from zerog.chain.methods import CALL
    from zerog.storage.kv.service import KvService

    path, storage_node = storage_path(node), source

    async def follow() -> None:
        await (await storage_node.node()).follow()

    service = KvService(
        directory=None if path is None else path / "kv",
        durable=node.config.storage.durable,
        streams=[bytes.fromhex(stream.removeprefix("0x")) for stream in settings.streams] or None,
        chain_id=lambda: node.chain_id,
        caller=CALL.get,
        key=_kv_key(settings.key_file),
        fetch=partial(_fetch, node, storage_node) if node.config.storage.peers else None,
        follow=follow,
        give_up_after=settings.give_up_after,
    )

    def hear(event: StoreEvent) -> None:
        from zerog.storage.store import Reverted

        if isinstance(event, Reverted):
            service.reverted(event.first_seq)
        else:
            service.wake()

    def attach(opened: StorageNode) -> None:
        opened.store.listen(hear)
        service.attach(opened.store)

    source.on_open(attach)
    return service


def _kv_key(path: str | None) -> NodeKey | None:
    """The key of encrypted streams that the configuration names."""
    if path is None:
        return None
    from zerog.storage.kv.nodekey import FileKey

    return FileKey.load(Path(path))


def _fetch(node: Node, storage: StorageService, submission: Submission, index: int) -> bytes | None:
    """A segment from the peers, for threads; ``None`` when nobody gives it in time, or the node is ending."""
    from concurrent.futures import CancelledError

    async def fetch() -> bytes | None:
        return await (await storage.node()).peers.fetch_segment(submission, index)

    try:
        return node.loop.run(fetch(), FETCH_LIMIT)
    except (TimeoutError, CancelledError, ZerogError, RuntimeError):
        return None


def miner(node: Node, running: dict[str, Service]) -> Service | None:
    """The miner over the storage node's data, paid to an account of the node."""
    from zerog.storage.service import StorageService

    settings, store = node.config.miner, running.get("storage")
    if not settings.enabled or not isinstance(store, StorageService) or not node.accounts:
        return None
    from zerog.storage.mining.service import beside

    return beside(
        store,
        lambda opened, stop: _miner(node, opened, stop),
        anywhere=node.config.storage.admin_anywhere,
    )


def _miner(node: Node, store: FlowStore, stop: threading.Event) -> Miner:
    """A miner over the opened store; ``stop`` ends its waiting."""
    import tempfile

    from zerog.chain.sequencer import Mode
    from zerog.contracts import PREDEPLOYS
    from zerog.storage.mining.contract import MiningContracts
    from zerog.storage.mining.miner import Miner, MinerOptions
    from zerog.storage.mining.sealed import SealedStore
    from zerog.storage.mining.sending import node_account

    rpc, settings, path = LocalRpc(node), node.config.miner, storage_path(node)
    directory = Path(tempfile.mkdtemp(prefix="zerog-miner-")) if path is None else path / "mining"

    def advance() -> None:
        if node.sequencer.mining.mode is Mode.AUTOMINE:
            rpc.request("evm_mine", [])

    contracts = MiningContracts(
        rpc, PREDEPLOYS["PoraMine"], PREDEPLOYS["StorageFlow"], PREDEPLOYS["StorageReward"]
    )
    return Miner(
        store,
        SealedStore(directory, temporary=path is None),
        contracts,
        node_account(rpc, node.accounts[max(0, len(node.accounts) - 3)].address, stop),
        options=MinerOptions(settings.answers_per_epoch, settings.threads),
        advance=advance if settings.make_blocks else None,
    )


def verifier(node: Node, running: dict[str, Service]) -> Service | None:
    """The verifiers of inferences, on accounts of the node from the fifth on."""
    from zerog.contracts import PREDEPLOYS

    settings = node.config.verifier
    accounts = node.accounts[FIRST_VERIFIER : FIRST_VERIFIER + settings.count]
    known = {address.lower() for address in node.genesis["alloc"]}
    here = PREDEPLOYS.get("InferenceAudit", "").lower() in known and "storage" in running
    if not settings.enabled or not here or not (accounts or settings.key_files):
        return None
    from zerog.inference.audit.service import VerifierService

    hosts = getattr(running.get("inference"), "hosts", None)
    if hosts is None or node.config.inference.upstream is not None:
        # A server of others cannot repeat an answer.
        hosts = model_hosts(node, upstream=False)
    return VerifierService(
        lambda: LocalRpc(node),
        [PREDEPLOYS["InferenceRegistry"], PREDEPLOYS["InferenceAudit"]],
        lambda tell: _auditor(node, hosts, [account.key for account in accounts], tell),
        [account.address for account in accounts],
        partial(_canaries, node, hosts.default) if settings.canary_ppm and len(node.accounts) > 1 else None,
    )


FIRST_VERIFIER = 4
"""Index of the account of a devnet's first verifier."""


def _canaries(node: Node, host: EngineHost, tell: Callable[[Happening], None]) -> CanaryLayer:
    """Lays canaries from the last account but one; only where the configuration of a devnet asks for it."""
    from zerog.client import Account, Client
    from zerog.inference.audit.setup import canary_layer

    settings, provider = node.config.verifier, Account(node.accounts[-2].key)
    return canary_layer(
        Client(node.url, account=provider, storage_url=node.url),
        provider,
        lambda: host.signatory().engine,
        None if node.data_dir is None else node.data_dir / "verifier" / "canaries.sqlite",
        share_ppm=settings.canary_ppm or 0,
        tell=tell,
    )


def _auditor(node: Node, hosts: ModelHosts, keys: list[bytes], tell: Callable[[Happening], None]) -> Auditor:
    """The node's verifiers; called when there is a first receipt."""
    from zerog.chain.sequencer import Mode
    from zerog.client import Account, Client
    from zerog.inference.audit.setup import auditor, read_key
    from zerog.inference.audit.verifier import Policy

    settings, rpc = node.config.verifier, LocalRpc(node)
    voters = [Account(key) for key in keys] + [read_key(Path(name)) for name in settings.key_files]

    def advance() -> None:
        if node.sequencer.mining.mode is Mode.AUTOMINE:
            rpc.request("evm_mine", [])

    def others(model_id: bytes) -> Engine | None:
        host = hosts.find(model_id)
        if host is None:
            return None
        # A verifier keeps the engine as long as it needs it, and others must not take it away then.
        with host.lease():
            engine = host.signatory().engine
            host.pin()
        return engine

    return auditor(
        Client(node.url, storage_url=node.url),
        voters,
        lambda: hosts.default.signatory().engine,
        None if node.data_dir is None else node.data_dir / "verifier" / "journal.sqlite",
        policy=Policy(prepare=settings.prepare, watch_ppm=settings.watch_ppm),
        advance=advance if settings.make_blocks else None,
        tell=tell,
        others=others,
    )


FACTORIES: list[tuple[str, Factory]] = [
    ("storage", storage),
    ("inference", inference),
    ("endpoint", endpoint),
    ("kv", kv),
    ("indexer", indexer),
    ("miner", miner),
    ("verifier", verifier),
]


def compose(node: Node, only: Sequence[str] | None = None) -> list[Service]:
    """The services of a node; ``only`` names the wanted ones."""
    if node.config.node.chain_only or not node.profile.devnet_controls:
        return []
    running: dict[str, Service] = {}
    for name, factory in FACTORIES:
        if only is not None and name not in only:
            continue
        service = factory(node, running)
        if service is not None:
            running[name] = service
    return list(running.values())
