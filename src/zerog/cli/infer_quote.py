"""``zerog infer quote``: a mock quote of trusted hardware for a devnet."""

from __future__ import annotations

from pathlib import Path

import click

from zerog.cli.output import common_options, report

DEFAULT_IMAGE = "zerog mock image"
_PATH = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--mock", "is_mock", is_flag=True, help="Yes, a mock: zerog makes no other quote.")
@click.option("--signer", required=True, help="Address that the quote binds: the provider's signer.")
@click.option("--at", type=click.IntRange(0), help="Clock of the chain, Unix seconds [now].")
@click.option("--image", default=DEFAULT_IMAGE, show_default=True, help="Decides the measurement.")
@click.option("--status", default="UpToDate", show_default=True, help="What the platform is said to be.")
@click.option("--out", type=_PATH, default=Path(), help="Folder for the two files [here].")
@common_options
def quote(is_mock: bool, signer: str, at: int | None, image: str, status: str, out: Path) -> None:
    """Make a MOCK quote and its collateral, to register a provider of a devnet with.

    Its root key is public, so it proves nothing; chains other than devnets refuse it.
    """
    import time

    from zerog.chain.native_contracts import verify_quote
    from zerog.inference.attestation import mock, quotes
    from zerog.inference.encoding import parse_hex

    if not is_mock:
        raise click.UsageError("real quotes come from the hardware; say --mock for one that proves nothing")
    now = int(time.time()) if at is None else at
    made = mock.mint(parse_hex(signer, 20, "--signer"), now=now, image=image, status=status)
    number, _, _, expires = verify_quote(made.quote, made.collateral, now)
    out.mkdir(parents=True, exist_ok=True)
    files = out / "mock_quote.bin", out / "mock_collateral.json"
    for path, content in zip(files, (made.quote, made.collateral), strict=True):
        path.write_bytes(content)
    name = quotes.TcbStatus(number & ~quotes.MOCK_STATUS).name
    shown = {
        "label": mock.LABEL,
        "mock": True,
        "quote": str(files[0]),
        "collateral": str(files[1]),
        "quoteHash": "0x" + quotes.quote_hash(made.quote).hex(),
        "measurement": "0x" + made.measurement.hex(),
        "status": name,
        "expires": expires,
    }
    lines = [f"{key:<12}{value}" for key, value in shown.items() if key not in ("label", "mock")]
    report("\n".join([mock.LABEL, *lines]), shown)
