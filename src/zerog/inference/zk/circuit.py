"""A circuit of an ONNX model: compile, prove, verify, and the Solidity source of its verifier."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError
from zerog.inference.weights import cache_folder

SCALE = 7
"""Fractional bits of a number in the circuit; more bits need a larger circuit."""
DECOMPOSITION_BASE, DECOMPOSITION_LEGS = 128, 4
"""Sums are split into this many digits of this base: 28 bits."""
MAX_LOGROWS = 17
"""Largest circuit: a proof of 2^17 rows takes minutes and gigabytes."""
MAX_MODEL_SIZE = 16 << 20
"""Bytes of an ONNX file that are accepted."""
_PARTS = ("settings.json", "model.ezkl", "vk.key", "pk.key")


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof and its public instances: those of the input, then those of the output, integers of BN254's field."""

    proof: bytes
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def instances(self) -> tuple[int, ...]:
        """All instances in the order in which the verifier takes them."""
        return self.inputs + self.outputs

    def evidence_hash(self) -> bytes:
        """``keccak256(abi.encode(bytes proof, uint256[] instances))``: the receipt's ``evidenceHash``."""
        padded = self.proof + bytes(-len(self.proof) % 32)
        head = _words(64, 96 + len(padded), len(self.proof))
        return keccak256(head + padded + encode_instances(self.instances)[32:])


def encode_instances(values: Sequence[int]) -> bytes:
    """``abi.encode(uint256[])``: input or output bytes of a receipt of tier ZK."""
    return _words(32, len(values), *values)


@dataclass(frozen=True, slots=True)
class Circuit:
    """A compiled circuit in ``folder``; ``srs`` is its structured reference string."""

    folder: Path
    srs: Path

    @classmethod
    def compile(
        cls, model: Path, folder: Path, *, example: Sequence[float], srs: Path | None = None
    ) -> Circuit:
        """Compiles an ONNX model and makes its keys.

        Without ``srs`` one is made on this machine and kept in the user's cache. **That is for a devnet only**: who
        made it can forge proofs. Elsewhere give the file of a public ceremony.

        Raises
        ------
        InferenceError : ezkl is missing, or the model is too large or not one that it can prove.
        """
        ezkl = _ezkl()
        if model.stat().st_size > MAX_MODEL_SIZE:
            raise InferenceError(f"{model} has {model.stat().st_size} bytes, more than {MAX_MODEL_SIZE}")
        folder.mkdir(parents=True, exist_ok=True)
        settings, compiled, verifying, proving = (folder / name for name in _PARTS)
        data = folder / "example.json"
        data.write_text(json.dumps({"input_data": [list(example)]}))
        with _refusing(f"{model.name} cannot be made into a circuit"):
            ezkl.gen_settings(str(model), str(settings), _arguments(ezkl))
            ezkl.calibrate_settings(
                str(data), str(model), str(settings), "resources", scales=[SCALE], max_logrows=MAX_LOGROWS
            )
            ezkl.compile_circuit(str(model), str(compiled), str(settings))
            rows = json.loads(settings.read_text())["run_args"]["logrows"]
            reference = srs or devnet_srs(rows)
            ezkl.setup(str(compiled), str(verifying), str(proving), str(reference))
        return cls(folder, reference)

    def prove(self, values: Sequence[float]) -> Proof:
        """Evaluates the model and proves it; raises `InferenceError`."""
        ezkl = _ezkl()
        with tempfile.TemporaryDirectory(prefix="zerog-zk-") as scratch, _refusing("the proof failed"):
            data, witness, proof = (Path(scratch) / name for name in ("input", "witness", "proof"))
            data.write_text(json.dumps({"input_data": [list(values)]}))
            ezkl.gen_witness(str(data), self._path("model.ezkl"), str(witness))
            ezkl.prove(
                str(witness), self._path("model.ezkl"), self._path("pk.key"), str(proof), str(self.srs)
            )
            made = json.loads(proof.read_text())
        inputs, _ = self.shape
        instances = tuple(int.from_bytes(bytes.fromhex(value), "little") for value in made["instances"][0])
        return Proof(bytes.fromhex(made["hex_proof"][2:]), instances[:inputs], instances[inputs:])

    def verify(self, proof: Proof) -> bool:
        """Whether the proof holds, checked on this machine."""
        ezkl = _ezkl()
        instances = [value.to_bytes(32, "little").hex() for value in proof.instances]
        text = {
            "instances": [instances],
            "proof": list(proof.proof),
            "hex_proof": "0x" + proof.proof.hex(),
        }
        with tempfile.TemporaryDirectory(prefix="zerog-zk-") as scratch:
            path = Path(scratch) / "proof"
            path.write_text(json.dumps({"protocol": None, "split": None, "timestamp": None, **text}))
            try:
                return bool(
                    ezkl.verify(str(path), self._path("settings.json"), self._path("vk.key"), str(self.srs))
                )
            except RuntimeError:
                return False

    @property
    def shape(self) -> tuple[int, int]:
        """Number of instances of the input and of the output."""
        shapes = json.loads((self.folder / "settings.json").read_text())["model_instance_shapes"]
        sizes = [_product(shape) for shape in shapes]
        return sizes[0], sum(sizes[1:])

    def solidity_verifier(self) -> str:
        """Source of the contract ``Halo2Verifier``; compile it with ``node contracts/compile.mjs FILE``."""
        ezkl = _ezkl()
        path = self.folder / "verifier.sol"

        async def write() -> None:
            made = ezkl.create_evm_verifier(
                self._path("vk.key"),
                self._path("settings.json"),
                str(path),
                str(self.folder / "verifier.abi"),
                srs_path=str(self.srs),
            )
            if inspect.isawaitable(made):
                await made

        path.unlink(missing_ok=True)
        try:
            asyncio.run(write())
        except RuntimeError as error:
            # It writes the source, then asks the network for a compiler that nothing here needs.
            if not path.exists() or not path.read_text().rstrip().endswith("}"):
                raise InferenceError(f"the verifier could not be written: {error}") from None
        return path.read_text()

    def _path(self, name: str) -> str:
        return str(self.folder / name)


def devnet_srs(logrows: int) -> Path:
    """A reference string made on this machine, kept in the user's cache. Insecure: for devnets only."""
    ezkl = _ezkl()
    folder = cache_folder().parent / "zk"
    path = folder / f"devnet-{logrows}.srs"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{path.name}.{os.getpid()}"
        ezkl.gen_srs(str(fresh), logrows)
        fresh.replace(path)
    return path


def _arguments(ezkl: Any) -> Any:
    given = ezkl.PyRunArgs()
    given.input_visibility = given.output_visibility = "public"
    given.param_visibility = "fixed"
    given.input_scale = given.param_scale = SCALE
    given.decomp_base, given.decomp_legs = DECOMPOSITION_BASE, DECOMPOSITION_LEGS
    return given


def _ezkl() -> Any:
    try:
        import ezkl
    except ImportError:
        raise InferenceError("ezkl is not installed", hint="pip install 'zerog[zk]'") from None
    return ezkl


class _refusing:
    """Turns what ezkl raises into one sentence."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RuntimeError):
            raise InferenceError(f"{self._what}: {str(error).splitlines()[0][:300]}") from error


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(32) for value in values)


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
