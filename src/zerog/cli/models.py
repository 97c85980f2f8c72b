"""``zerog models``: add models, look at them, hash them again, register and publish them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerog.cli.output import common_options, print_json, report, wants_json
from zerog.errors import InferenceError

if TYPE_CHECKING:
    from zerog.client import Client
    from zerog.inference.model_store import StoredModel
    from zerog.inference.weights_check import Progress

DEFAULT_URL = "http://127.0.0.1:8545"
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
MAX_TEMPLATE_FILE = 1 << 16


@click.group()
def models() -> None:
    """Add models, check them, register them on chain.

    A model is its weights, its chat template and its quantisation: another file is another model id.
    `zerog up` serves what `[inference] models = ["NAME"]` of its configuration names.
    """


def _chain(command: Any) -> Any:
    """Options of commands that talk to a node."""
    for option in (
        click.option("--url", default=DEFAULT_URL, show_default=True, help="Node of the chain."),
        click.option("--key-file", type=_FILE, help="File with the key of the account that pays [an account of the node]."),
    ):  # fmt: skip
        command = option(command)
    return command


@models.command()
@click.argument("file", type=_FILE)
@click.option("--name", help="What it is called here [the file's name].")
@click.option("--template", type=click.Choice(["gguf", "chatml"]), default="gguf", show_default=True,
              help="Chat template: the one in the file, or bare ChatML.")  # fmt: skip
@click.option("--template-file", type=_FILE, help="Chat template in Jinja, instead of --template.")
@click.option("--link", is_flag=True, help="Hard link instead of a copy, where that is possible.")
@click.option("--uri", default="", help="Where others get it; is told on chain.")
@click.option(
    "--no-test", is_flag=True, help="Without the self-test; nothing can be signed until it is made."
)
@click.option("--register", "also_register", is_flag=True, help="Register it on chain, too.")
@click.option(
    "--publish", "also_publish", is_flag=True, help="Store the weights on the storage network, too."
)
@_chain
@common_options
def add(
    file: Path,
    name: str | None,
    template: str,
    template_file: Path | None,
    link: bool,
    uri: str,
    no_test: bool,
    also_register: bool,
    also_publish: bool,
    url: str,
    key_file: Path | None,
) -> None:
    """Take the GGUF FILE into this machine's models and test that it is exact."""
    from zerog.contracts.genesis import CHATML
    from zerog.inference.model_store import ModelStore

    chat = CHATML if template == "chatml" else None
    if template_file is not None:
        chat = _template(template_file)
    store = ModelStore()
    with _progress() as progress:
        model = store.add(file, name, template=chat, link=link, uri=uri, progress=progress)
    if not no_test and not model.signable:
        model = _tested(store, model)
    on_chain: dict[str, Any] = {}
    if also_register or also_publish:
        client = _client(url, key_file)
        if also_publish:
            on_chain |= _publish(client, model)
        if also_register:
            on_chain |= _register(client, model)
    report(_described(model, on_chain), _as_json(model) | on_chain)


@models.command("list")
@common_options
def list_models() -> None:
    """Show the models of this machine."""
    from zerog.inference.model_store import ModelStore

    found = ModelStore().list()
    if wants_json():
        print_json([_as_json(model) for model in found])
        return
    width = max(len(model.name) for model in found)
    for model in found:
        where = f"{model.size / 1e6:8.1f} MB" if model.path else "not here    "
        mark = "signable" if model.signable else "NOT SIGNABLE"
        click.echo(
            f"{model.name:<{width}}  {model.model.quantisation:<7} {where}  {model.model_id[:18]}…  {mark}"
        )


@models.command()
@click.argument("model")
@common_options
def show(model: str) -> None:
    """Show one MODEL: a name, a model id or a weights root."""
    from zerog.inference.model_store import ModelStore

    found = ModelStore().find(model)
    report(_described(found, {}), _as_json(found) | {"chatTemplate": found.model.chat_template})


@models.command()
@click.argument("model", required=False)
@common_options
def verify(model: str | None) -> None:
    """Hash the weights of MODEL, or of all, again; exit code 1 when one is altered or missing."""
    from zerog.inference.model_store import ModelStore

    store = ModelStore()
    # The built-in model may never have been fetched: that is no fault, unless it is asked for.
    chosen = [store.find(model)] if model else [m for m in store.list() if m.path or not m.built_in]
    verdicts = []
    for candidate in chosen:
        with _progress() as progress:
            verdicts.append(store.verify(candidate, progress))
    if wants_json():
        print_json([{"name": v.name, "intact": v.intact, "detail": v.detail} for v in verdicts])
    for verdict in [] if wants_json() else verdicts:
        mark = click.style("✓", fg="green") if verdict.intact else click.style("✗", fg="red", bold=True)
        click.echo(f"{mark} {verdict.name}: {verdict.detail}")
    if not all(verdict.intact for verdict in verdicts):
        click.get_current_context().exit(1)


@models.command()
@click.argument("model")
@common_options
def test(model: str) -> None:
    """Test that generating and checking with MODEL agree bit for bit; exit code 1 when they do not."""
    from zerog.inference.model_store import ModelStore

    store = ModelStore()
    found = store.find(model)
    tested = _tested(store, found)
    report(f"{tested.name}: {tested.standing}", _as_json(tested))
    if not tested.signable:
        click.get_current_context().exit(1)


@models.command()
@click.argument("model")
@click.option(
    "--publish", "also_publish", is_flag=True, help="Store the weights on the storage network, too."
)
@_chain
@common_options
def register(model: str, also_publish: bool, url: str, key_file: Path | None) -> None:
    """Register MODEL on chain, so that it can be asked for at the gate."""
    from zerog.inference.model_store import ModelStore

    found = ModelStore().find(model)
    client = _client(url, key_file)
    done = _publish(client, found) if also_publish else {}
    done |= _register(client, found)
    report(_described(found, done), _as_json(found) | done)


@models.command()
@click.argument("model_id")
@click.option("--name", required=True, help="What it will be called here.")
@click.option("--no-test", is_flag=True, help="Without the self-test.")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Node of chain and storage.")
@common_options
def fetch(model_id: str, name: str, no_test: bool, url: str) -> None:
    """Get the model MODEL_ID, registered on chain, from the storage network."""
    from zerog.inference.model_store import ModelStore
    from zerog.inference.registration import fetch_model

    store = ModelStore()
    with _progress() as progress:
        model = fetch_model(_client(url, None), store, model_id, name, progress)
    if not no_test and not model.signable:
        model = _tested(store, model)
    report(_described(model, {}), _as_json(model))


@models.command()
@click.argument("model")
@common_options
def remove(model: str) -> None:
    """Forget MODEL and delete its weights here."""
    from zerog.inference.model_store import ModelStore

    store = ModelStore()
    found = store.find(model)
    store.remove(found.name)
    report(f"removed {found.name}", {"removed": found.name})


# What the commands share.


def _tested(store: Any, model: StoredModel) -> StoredModel:
    """The model with the result of its self-test."""
    from zerog.inference.engines.llama_context import require_engine
    from zerog.inference.engines.llama_cpp import LlamaCppEngine
    from zerog.inference.model_store import SelfTestResult
    from zerog.inference.self_test import full_exactness, self_test
    from zerog.inference.weights_check import require_root

    path = store.weights(model)
    # What is wrong with this machine or with the file says nothing about the model.
    require_engine()
    require_root(path, model.model.weights_root, model.name)
    if not wants_json():
        click.echo("self-test: answers, then the same rows by one prefill; may take a minute", err=True)
    try:
        engine = LlamaCppEngine(path, model.model)
        try:
            if model.built_in:
                self_test(engine)
                return model
            found = full_exactness(engine)
        finally:
            engine.close()
        detail = f"exact in {found.rows} rows, up to {found.context} tokens of context"
        result = SelfTestResult(True, LlamaCppEngine.description, detail)
    except InferenceError as error:
        if model.built_in:
            raise
        result = SelfTestResult(False, LlamaCppEngine.description, error.message)
    tested: StoredModel = store.note_self_test(model.name, result)
    return tested


def _register(client: Client, model: StoredModel) -> dict[str, Any]:
    from zerog.inference.registration import register_model

    if not model.signable:
        raise InferenceError(
            f"{model.name} is not signable ({model.standing}): it was not registered",
            hint=f"run: zerog models test {model.name}",
        )
    transaction = register_model(client, model)
    return {"registered": True, "transaction": transaction}


def _publish(client: Client, model: StoredModel) -> dict[str, Any]:
    from zerog.inference.model_store import ModelStore
    from zerog.inference.registration import publish_model

    with _progress() as progress:
        publish_model(client, model, ModelStore().weights(model), progress)
    return {"published": True}


def _client(url: str, key_file: Path | None) -> Client:
    """A client whose account pays: that of a key file, else the node's first."""
    from zerog.client import Client

    client = Client(url)
    if key_file is not None:
        from zerog.inference.audit.setup import read_key

        client.account = read_key(key_file)
    elif held := client.node_accounts:
        client.account = held[0]
    return client


def _template(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TEMPLATE_FILE:
            raise InferenceError(f"{path} has more than {MAX_TEMPLATE_FILE} bytes")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InferenceError(f"the template {path} cannot be read: {error}") from None


def _described(model: StoredModel, on_chain: dict[str, Any]) -> str:
    identity = model.model
    lines = [
        f"model     {model.name}",
        f"id        {model.model_id}",
        f"weights   {identity.weights_root}  {model.size} bytes",
        f"kind      {model.architecture}, {identity.quantisation}",
        f"file      {model.path or 'not on this machine'}",
        f"signable  {'yes' if model.signable else 'NO'}: {model.standing}",
    ]
    if on_chain.get("published"):
        lines.append("storage   the weights are stored under their root")
    if on_chain.get("registered"):
        sent = on_chain["transaction"]
        lines.append(f"chain     registered{' in ' + sent if sent else ' before'}")
    return "\n".join(lines)


def _as_json(model: StoredModel) -> dict[str, Any]:
    from zerog.chain.keys import keccak256

    identity = model.model
    return {
        "name": model.name,
        "modelId": model.model_id,
        "weightsRoot": identity.weights_root,
        "tokenizerHash": identity.tokenizer_hash,
        "chatTemplateHash": "0x" + keccak256(identity.chat_template.encode()).hex(),
        "quantisation": identity.quantisation,
        "architecture": model.architecture,
        "size": model.size,
        "trainedContext": model.trained_context,
        "file": None if model.path is None else str(model.path),
        "builtIn": model.built_in,
        "signable": model.signable,
        "selfTest": model.standing,
        "uri": identity.uri,
    }


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A callback that draws bars, when a person looks."""
    if wants_json() or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:>8}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show_progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        drawn: Callable[[str, int, int], None] = show_progress
        yield drawn
