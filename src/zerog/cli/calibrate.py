"""``zerog audit calibrate``: thresholds of the class tolerant for a model, with their error rates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerog.cli.output import common_options, print_json, wants_json
from zerog.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerog.inference.calibration import Report, Row

MAX_PROMPTS_FILE = 1 << 20
_MICRO = 1_000_000


@click.command()
@click.option(
    "--prompts", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with one prompt a line [prompts that come with zerog].",
)  # fmt: skip
@click.option("--count", type=click.IntRange(6), help="Take only so many prompts, from the first on.")
@click.option(
    "--tokens", type=click.IntRange(4, 512), default=32, show_default=True, help="Length of answers."
)
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False),
              help="Write thresholds and figures to this file.")  # fmt: skip
@common_options
def calibrate(prompts: Path | None, count: int | None, tokens: int, out: Path | None) -> None:
    """Measure how far honest servers and cheats lie from the embedded engine.

    Thresholds come from the first third of the prompts, error rates from the rest. A verifier uses
    the file when it lies in the folder $ZEROG_TOLERANCE under the name <model id>.json.
    """
    import tempfile

    import msgspec

    from zerog.cli.infer import weights
    from zerog.inference.calibration import calibrate as measure
    from zerog.inference.engine_host import embedded

    texts = _prompts(prompts)[:count]
    path = weights()
    engine = embedded()
    try:
        with tempfile.TemporaryDirectory(prefix="zerog-calibration-") as folder, _Bar() as bar:
            found = measure(engine, path, Path(folder), texts, tokens=tokens, progress=bar.show)
    finally:
        engine.close()
    document = msgspec.json.encode(found)
    if out is not None:
        try:
            out.write_bytes(msgspec.json.format(document, indent=1) + b"\n")
        except OSError as error:
            raise InferenceError(f"cannot write {out}: {error.strerror}") from None
    if wants_json():
        print_json(msgspec.json.decode(document))
    else:
        click.echo("\n".join(_table(found)))


def _prompts(path: Path | None) -> Sequence[str]:
    from importlib import resources

    try:
        if path is not None and path.stat().st_size > MAX_PROMPTS_FILE:
            raise InferenceError(f"{path} is larger than {MAX_PROMPTS_FILE} bytes")
        source: Any = path or resources.files("zerog.inference") / "data" / "calibration_prompts.txt"
        text: str = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InferenceError(f"cannot read the prompts {path}: {error}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _table(found: Report) -> list[str]:
    held = found.held_back_prompts
    lines = [
        f"{found.model}: {found.calibration_prompts} prompts for the thresholds, {held} for the rates,"
        f" {found.tokens} tokens",
        f"{'provider':<38}{'accused':>12}{'distance':>10}{'missing':>9}{'chosen':>8}{'regret':>8}",
    ]
    lines += [_line(row) for row in found.rows]
    limits = found.thresholds
    values = (limits.distance_micro, limits.missing_micro, limits.chosen_micro, limits.regret_micro)
    lines.append(f"{'thresholds':<50}" + _values(values))
    for honest, what in ((True, "false alarms"), (False, "cheats found")):
        accused, answers = found.rate(honest)
        lines.append(f"{what}: {accused} of {answers}")
    return lines


def _line(row: Row) -> str:
    most = (row.distance[2], row.missing[2], row.chosen[2], row.regret[2])
    return f"{row.setting:<38}{f'{row.accused} of {row.answers}':>12}" + _values(most)


def _values(values: tuple[int, int, int, int]) -> str:
    return "".join(
        f"{value / _MICRO:>{width}.3f}" for value, width in zip(values, (10, 9, 8, 8), strict=True)
    )


class _Bar:
    """A bar on standard error, where that is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bars = Progress(console=Console(stderr=True), disable=wants_json())
        self._task: Any = None

    def __enter__(self) -> _Bar:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, what: str, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._bars.add_task("", total=total)
        self._bars.update(self._task, completed=done, total=total, description=what)
