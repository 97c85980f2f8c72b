"""``zerog audit``: be a verifier, look at audits, challenge a receipt, or be a cheat on a devnet."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerog.cli.calibrate import calibrate
from zerog.cli.output import common_options, print_json, report, wants_json
from zerog.errors import InferenceError

if TYPE_CHECKING:
    from zerog.client import Client
    from zerog.inference.audit.canary import CanaryLayer
    from zerog.inference.audit.cheating import CheatOutcome, Scene
    from zerog.inference.audit.contract import AuditContracts
    from zerog.inference.audit.verifier import Happening

DEFAULT_URL = "http://127.0.0.1:8545"
_PATH = click.Path(path_type=Path, exists=True, dir_okay=False)
_WEI = 10**18
CHEATS = (
    "q4_0", "q8_0", "f16", "q5_0", "q5_1", "q2_k",
    "prefill", "tamper", "early-stop", "other-prompt", "other-seed", "logit",
)  # fmt: skip


@click.group()
def audit() -> None:
    """Verify the answers of others, and be paid; or try to cheat."""


audit.add_command(calibrate)


def _url(command: Any) -> Any:
    return click.option("--url", default=DEFAULT_URL, show_default=True, help="Node of the chain.")(command)


def _key(command: Any) -> Any:
    return click.option(
        "--key-file", type=_PATH, required=True, help="File with the account's key, hexadecimal."
    )(command)


@audit.command()
@_url
@_key
@click.option(
    "--stake", type=click.FloatRange(0), default=0.0, help="Tokens to stake; the least allowed when less."
)
@click.option("--watch", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Share of the receipts nobody was drawn for that are checked, and challenged when bad.")  # fmt: skip
@click.option("--storage-url", help="Storage network, when not at --url.")
@common_options
def run(url: str, key_file: Path, stake: float, watch: float, storage_url: str | None) -> None:
    """Be a verifier: stake, get drawn, execute again, vote, earn. Ends with Ctrl-C."""
    import signal
    import threading

    from zerog.inference.audit.setup import auditor, read_key
    from zerog.inference.audit.verifier import Policy
    from zerog.node.datadir import home

    stop, account = threading.Event(), read_key(key_file)
    client = _client(url, storage_url)
    engine = _Lazy()
    verifier = auditor(
        client,
        [account],
        engine.get,
        home() / "verifier" / f"{account.address.lower()}.sqlite",
        stake=int(stake * _WEI),
        policy=Policy(watch_ppm=int(watch * 1_000_000)),
        tell=_tell,
        others=engine.other,
    )
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    report(f"{account.address} follows {url}", {"kind": "started", "verifier": account.address, "url": url})
    try:
        verifier.run(stop)
    finally:
        engine.close()


class _Lazy:
    """The embedded engine, loaded at the first receipt; and one of the added models at a time."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._other: tuple[bytes, Any] | None = None

    def other(self, model_id: bytes) -> Any:
        from zerog.inference.engine_host import added

        if self._other is None or self._other[0] != model_id:
            _, load = added("0x" + model_id.hex())
            if self._other is not None:
                self._other[1].close()
                self._other = None
            self._other = (model_id, load())
        return self._other[1]

    def get(self) -> Any:
        if self._engine is None:
            from zerog.inference.engine_host import embedded
            from zerog.inference.self_test import self_test

            engine = embedded()
            self_test(engine)
            self._engine = engine
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.interrupt()
        if self._other is not None:
            self._other[1].interrupt()


def _tell(happening: Happening) -> None:
    report(happening.text, {"kind": happening.kind, **happening.facts})


@audit.command()
@click.argument("receipt", required=False)
@_url
@common_options
def status(receipt: str | None, url: str) -> None:
    """Show what the node's verifiers do, or the whole audit of one RECEIPT."""
    client = _client(url)
    if receipt is None:
        found = client.request("audit_status")
        lines = [f"{found['state']}" + (f"; {found['failure']}" if found["failure"] else "")]
        lines += [f"verifier {address}" for address in found["verifiers"]]
        lines += [news["text"] for news in found["news"]]
        report("\n".join(lines), found)
        return
    from zerog.inference.audit.contract import AuditContracts
    from zerog.inference.audit.history import history

    contracts, receipt_hash = AuditContracts(client), _hash(receipt)
    contracts.require()
    entries = history(contracts, receipt_hash)
    state = contracts.audit(receipt_hash).phase.name.lower()
    lines = [f"block {entry.block}: {entry.text}  {entry.transaction}" for entry in entries]
    report(
        "\n".join([*lines, f"state: {state}"]), {"state": state, "history": [e.as_json() for e in entries]}
    )


@audit.command()
@click.argument("receipt")
@click.option("--leaf", type=click.IntRange(0, 2**32 - 1), default=2**32 - 1,
              help="First bad leaf; without it the fault is elsewhere.")  # fmt: skip
@_url
@_key
@common_options
def challenge(receipt: str, leaf: int, url: str, key_file: Path) -> None:
    """Dispute a RECEIPT with a bond; a committee decides, and a lost challenge costs the bond."""
    from zerog.inference.audit.contract import AuditContracts
    from zerog.inference.audit.setup import read_key

    contracts = AuditContracts(_client(url))
    contracts.require()
    bond = contracts.terms().bond
    sent = contracts.audits.challenge(_hash(receipt), leaf, value=bond, account=read_key(key_file))
    report(f"challenged with a bond of {bond / _WEI:g} tokens in {sent.hash}",
           {"transaction": sent.hash, "bond": str(bond), "leaf": leaf})  # fmt: skip


@audit.command()
@_url
@_key
@common_options
def withdraw(url: str, key_file: Path) -> None:
    """Pay out what audits owe the account."""
    from zerog.inference.audit.contract import AuditContracts
    from zerog.inference.audit.setup import read_key

    contracts, account = AuditContracts(_client(url)), read_key(key_file)
    contracts.require()
    owed = contracts.credit(account.address)
    if not owed:
        report("nothing to withdraw", {"transaction": None, "amount": "0"})
        return
    sent = contracts.audits.withdraw(account.address, account=account)
    report(f"paid out {owed / _WEI:g} tokens in {sent.hash}", {"transaction": sent.hash, "amount": str(owed)})


@audit.command("exit")
@click.option("--finish", is_flag=True, help="Take the stake back; its delay has passed.")
@_url
@_key
@common_options
def leave(finish: bool, url: str, key_file: Path) -> None:
    """Stop being a verifier: ask for the stake back, later take it with --finish."""
    from zerog.inference.audit.contract import AuditContracts
    from zerog.inference.audit.setup import read_key

    contracts, account = AuditContracts(_client(url)), read_key(key_file)
    contracts.require()
    if finish:
        sent = contracts.verifiers.withdrawStake(account=account)
        report(f"the stake is back, {sent.hash}", {"transaction": sent.hash})
        return
    stake, _ = contracts.standing(account.address)
    sent = contracts.verifiers.requestUnstake(stake, account=account)
    report(f"asked for {stake / _WEI:g} tokens back in {sent.hash}; then: zerog audit exit --finish",
           {"transaction": sent.hash, "amount": str(stake)})  # fmt: skip


@audit.command()
@click.option("--follow", is_flag=True, help="Go on laying, for a share of the receipts that are seen.")
@click.option("--share", type=click.FloatRange(0, 1),
              help="That share; by default 0.05, on a devnet 0.")  # fmt: skip
@click.option("--storage-url", help="Storage network, when not at --url.")
@_url
@_key
@common_options
def canary(follow: bool, share: float | None, storage_url: str | None, url: str, key_file: Path) -> None:
    """Lay a bad receipt to find verifiers that do not execute; without --follow one, watched to its end.

    The account becomes a provider (its stake is spared) and pays the bond, which comes back.
    """
    import signal
    import threading

    from zerog.client import Client
    from zerog.inference.audit.canary import share_of
    from zerog.inference.audit.contract import AuditContracts
    from zerog.inference.audit.setup import canary_layer, read_key
    from zerog.node.datadir import home

    account, engine, stop = read_key(key_file), _Lazy(), threading.Event()
    client = Client(url, account=account, storage_url=storage_url)
    asked = None if share is None else round(share * 1_000_000)
    layer = canary_layer(
        client,
        account,
        engine.get,
        home() / "verifier" / f"canaries-{account.address.lower()}.sqlite",
        share_ppm=share_of(asked, _is_devnet(client)),
        tell=_tell,
    )
    if follow:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stop.set())
        layer.run(stop)
    else:
        _watch_canary(AuditContracts(client), layer)
    engine.close()


def _watch_canary(contracts: AuditContracts, layer: CanaryLayer) -> None:
    """Lays one and shows what its audit says until the dispute over it is settled."""
    from zerog.inference.audit.history import history
    from zerog.inference.provider import wait_for

    laid, shown = layer.lay(), 0

    def settled() -> bool:
        nonlocal shown
        layer.tick()
        for entry in history(contracts, laid.receipt_hash)[shown:]:
            shown += 1
            report(f"block {entry.block}: {entry.text}", entry.as_json())
        phase = contracts.audit(laid.receipt_hash).phase
        return laid.receipt_hash not in layer.waiting and phase.settled

    wait_for(settled, 24 * 3600, "the end of the dispute", pause=0.1)


def _is_devnet(client: Client) -> bool:
    """Whether the chain takes a devnet's controls, so that nobody's stake is real."""
    from zerog.errors import RpcError

    try:
        client.request("anvil_nodeInfo")
    except RpcError:
        return False
    return True


@audit.command("cheat")
@click.option("--with", "trick", type=click.Choice(CHEATS), required=True, help="How to cheat.")
@click.option("--url", help=f"Devnet to cheat on [{DEFAULT_URL} if one runs there, else one of its own].")
@click.option("--max-tokens", type=click.IntRange(4, 512), default=48, show_default=True)
@common_options
def cheat_command(trick: str, url: str | None, max_tokens: int) -> None:
    """Be a dishonest provider on a devnet, and watch being caught; exit code 1 when it was not."""
    from zerog.cli.infer import weights
    from zerog.inference.audit.cheating import CheatPlay
    from zerog.inference.engine_host import embedded
    from zerog.inference.publication import StorageTranscripts

    path = weights()
    with ExitStack() as stack:
        client = _running(url)
        if client is None:
            from zerog.client import Devnet

            client = stack.enter_context(Devnet(services=["storage", "verifier"])).client
        engine = embedded()
        stack.callback(engine.close)
        store = StorageTranscripts(client.storage)
        play = CheatPlay(client, trick, engine, path, store, max_tokens=max_tokens)
        for scene in play.play():
            _show(scene)
        _conclude(play.outcome)
    if not play.outcome.caught:
        click.get_current_context().exit(1)


def _running(url: str | None) -> Client | None:
    """A devnet with verifiers; ``None`` when none was named and none runs at the usual address."""
    from zerog.errors import RpcError, TransportError

    client = _client(url or DEFAULT_URL)
    try:
        client.request("audit_status")
        return client
    except (TransportError, RpcError) as error:
        if url is not None:
            raise InferenceError(
                f"no verifiers answer at {url}: {error}", hint="use a zerog devnet"
            ) from None
        return None


def _show(scene: Scene) -> None:
    if wants_json():
        print_json({"scene": scene.title, **scene.data})
        return
    click.secho(scene.title, bold=True)
    width = max(map(len, scene.facts), default=0)
    for name, value in scene.facts.items():
        click.echo(f"    {name:<{width}}  {value}")


def _conclude(outcome: CheatOutcome) -> None:
    import dataclasses

    if wants_json():
        print_json({"outcome": dataclasses.asdict(outcome), "caught": outcome.caught})
        return
    word, colour = ("CAUGHT", "green") if outcome.caught else ("NOT CAUGHT", "red")
    click.secho(f"\n{word}: {outcome.reason}", fg=colour, bold=True)


def _hash(text: str) -> bytes:
    from zerog.inference.encoding import parse_hex

    return parse_hex(text, 32, "the receipt hash")


def _client(url: str, storage_url: str | None = None) -> Client:
    from zerog.client import Client

    return Client(url, storage_url=storage_url)
