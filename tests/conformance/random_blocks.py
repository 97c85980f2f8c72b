"""Random blocks for the differential test: accounts, programs and transactions of types 0 to 4 from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

import ckzg
import rlp
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

GWEI = 10**9
PRECOMPILES = [*range(1, 0x12), 0x100]
SYSTEM = (
    0x00000961EF480EB55E80D19AD83579A64C007002,  # EIP-7002 withdrawal requests
    0x0000BBDDC7CE488642FB579F8B00F3A590007251,  # EIP-7251 consolidation requests
    0x0000F90827F1C53A10CB7A02335B175320002935,  # EIP-2935 block hashes
    0x000F3DF6D732807EF1319FB7B8BB8522D0BEAC02,  # EIP-4788 beacon roots
)


def push(value: int) -> bytes:
    """The shortest PUSH of a number."""
    if value == 0:
        return b"\x5f"
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([0x5F + len(raw)]) + raw


def program(rng: random.Random, addresses: list[int], depth: int = 0) -> bytes:
    """A random but mostly meaningful program: snippets that leave the stack as they found it."""
    out = b""
    for _ in range(rng.randint(1, 9)):
        out += snippet(rng, addresses, depth)
    return out + rng.choice([b"\x00", b"", push(rng.randint(0, 64)) + b"\x5f\xf3", b"\x5f\x5f\xfd", b"\xfe"])


def snippet(rng: random.Random, addresses: list[int], depth: int) -> bytes:
    slot, value = rng.randint(0, 5), rng.choice([0, 0, 1, 2, rng.getrandbits(256)])
    target = rng.choice(addresses)
    kind = rng.randint(0, 25)
    if kind <= 4:
        return push(value) + push(slot) + b"\x55"  # SSTORE
    if kind == 5:
        return push(slot) + b"\x54" + push(rng.randint(0, 9)) + b"\x01" + push(slot) + b"\x55"  # slot += n
    if kind == 6:
        return push(value) + push(slot) + b"\x5d" + push(slot) + b"\x5c\x50"  # TSTORE, TLOAD
    if kind <= 9:  # a call of any kind, with its result stored
        op = rng.choice([0xF1, 0xF1, 0xF2, 0xF4, 0xFA])
        gas = rng.choice([0, 2300, 30_000, 200_000, 2**256 - 1])
        data = rng.randint(0, 96)
        stack = push(rng.randint(0, 64)) + b"\x5f" + push(data) + b"\x5f"
        stack += push(rng.choice([0, 0, 1, 10**15])) if op in (0xF1, 0xF2) else b""
        return stack + push(target) + push(gas) + bytes([op]) + push(slot) + b"\x55"
    if kind == 10:  # a precompile with random input
        words = rng.randint(0, 8)
        body = b"".join(
            push(rng.getrandbits(rng.choice([1, 8, 64, 256]))) + push(32 * i) + b"\x52" for i in range(words)
        )
        size = rng.choice([0, 32 * words, 32 * words + 1, 128, 192, 213])
        return (
            body
            + push(64)
            + b"\x5f"
            + push(size)
            + b"\x5f\x5f"
            + push(rng.choice(PRECOMPILES))
            + push(300_000)
            + b"\xf1"
            + push(slot)
            + b"\x55\x3d"
            + push(slot + 1)
            + b"\x55"
        )
    if kind in (11, 12) and depth < 2:  # CREATE or CREATE2 of a random program
        inner = program(rng, addresses, depth + 1)
        body = b"".join(
            push(int.from_bytes(inner[i : i + 32].ljust(32, b"\0"), "big")) + push(i) + b"\x52"
            for i in range(0, len(inner), 32)
        )
        salt = push(rng.randint(0, 3)) if kind == 12 else b""
        return (
            body
            + salt
            + push(len(inner))
            + b"\x5f"
            + push(rng.choice([0, 1]))
            + (b"\xf5" if kind == 12 else b"\xf0")
            + push(slot)
            + b"\x55"
        )
    if kind == 13:
        topics = rng.randint(0, 4)
        return (
            b"".join(push(rng.getrandbits(64)) for _ in range(topics))
            + push(rng.randint(0, 70))
            + b"\x5f"
            + bytes([0xA0 + topics])
        )
    if kind == 14:
        return (
            push(rng.randint(0, 100)) + push(rng.randint(0, 32)) + b"\x20" + push(slot) + b"\x55"
        )  # KECCAK256
    if kind == 15:
        op = rng.choice([0x31, 0x3B, 0x3F])  # BALANCE, EXTCODESIZE, EXTCODEHASH
        return push(target) + bytes([op]) + push(slot) + b"\x55"
    if kind == 16:
        return push(rng.randint(0, 8)) + b"\x43\x03\x40" + push(slot) + b"\x55"  # BLOCKHASH of a recent block
    if kind == 17:
        return push(rng.randint(0, 2)) + b"\x49" + push(slot) + b"\x55"  # BLOBHASH
    if kind == 18:  # an environment word
        return (
            bytes(
                [
                    rng.choice(
                        [
                            0x30,
                            0x32,
                            0x33,
                            0x34,
                            0x36,
                            0x38,
                            0x3A,
                            0x41,
                            0x42,
                            0x43,
                            0x44,
                            0x45,
                            0x46,
                            0x47,
                            0x48,
                            0x4A,
                            0x58,
                            0x59,
                            0x5A,
                        ]
                    )
                ]
            )
            + push(slot)
            + b"\x55"
        )
    if kind == 19:
        return (
            push(rng.randint(0, 90)) + push(rng.randint(0, 64)) + push(rng.randint(0, 64)) + b"\x5e"
        )  # MCOPY
    if kind == 20:
        op = rng.choice(
            [*range(0x01, 0x08), 0x0A, 0x0B, *range(0x10, 0x15), 0x16, 0x17, 0x18, 0x1A, 0x1B, 0x1C, 0x1D]
        )
        return (
            push(rng.getrandbits(rng.choice([8, 256])))
            + push(rng.getrandbits(rng.choice([3, 8, 256])))
            + bytes([op])
            + push(slot)
            + b"\x55"
        )
    if kind == 21:
        return (
            push(rng.getrandbits(rng.randint(0, 256)))
            + bytes([rng.choice([0x15, 0x19, 0x1E])])
            + push(slot)
            + b"\x55"
        )  # ISZERO, NOT, CLZ
    if kind == 22:
        return (
            push(rng.randint(0, 64)) + push(rng.randint(0, 64)) + b"\x5f" + push(target) + b"\x3c"
        )  # EXTCODECOPY
    if kind == 23 and depth == 0 and rng.random() < 0.3:
        return push(target) + b"\xff"  # SELFDESTRUCT
    if kind == 24:  # a request to a system contract with some value and input
        size = rng.choice([0, 32, 56, 96])
        return (
            b"\x5f\x5f"
            + push(size)
            + b"\x5f"
            + push(rng.choice([0, 1, 2]))
            + push(rng.choice(SYSTEM))
            + push(200_000)
            + b"\xf1\x50"
        )
    return b"\x3d\x5f\x5f\x3e"  # RETURNDATACOPY of everything


@dataclass
class World:
    """A genesis allocation and a stream of blocks' transactions, all from one seed."""

    seed: int
    chain_id: int
    cell_proofs: bool
    rng: random.Random = field(init=False)
    accounts: list[LocalAccount] = field(init=False)
    contracts: list[int] = field(init=False)
    alloc: dict[str, dict[str, Any]] = field(init=False)
    nonces: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.accounts = [Account.from_key(keccak(f"{self.seed}-{i}".encode())) for i in range(24)]
        self.contracts = [0xC0DE00 + i for i in range(12)]
        known = self.addresses()
        self.alloc = {a.address.lower(): {"balance": hex(10**22)} for a in self.accounts}
        for address in self.contracts:
            self.alloc[f"0x{address:040x}"] = {
                "balance": hex(self.rng.choice([0, 1, 10**18])),
                "nonce": hex(1),
                "code": "0x" + program(self.rng, known).hex(),
                "storage": {
                    f"0x{i:064x}": f"0x{self.rng.randint(1, 9):064x}" for i in range(self.rng.randint(0, 4))
                },
            }
        self.nonces = {a.address: 0 for a in self.accounts}

    def addresses(self) -> list[int]:
        own = [int(a.address, 16) for a in self.accounts]
        return [*own, *self.contracts, *PRECOMPILES, *SYSTEM, 0xFEED, 0]

    def transaction(self, base_fee: int) -> bytes:
        """A signed transaction of a random type that its sender can pay for; raw, blobs in network form."""
        rng = self.rng
        sender = rng.choice(self.accounts)
        kind = rng.choice([0, 0, 1, 2, 2, 3, 4])
        to: int | None = rng.choice([*self.contracts * 2, *self.addresses()])
        if kind < 3 and rng.random() < 0.12:
            to = None
        data = (
            program(rng, self.addresses())
            if to is None
            else rng.randbytes(rng.choice([0, 0, 4, 36, 100, 500]))
        )
        tip = rng.choice([0, 1, GWEI])
        fields: dict[str, Any] = {
            "chainId": self.chain_id,
            "nonce": self.nonces[sender.address],
            "gas": rng.choice([200_000, 500_000, 1_500_000]),
            "value": rng.choice([0, 0, 1, 10**12, 10**18]),
            "data": data,
        }
        if to is not None:
            fields["to"] = f"0x{to:040x}"
            fields["to"] = _checksum(fields["to"])
        if kind < 2:
            fields["gasPrice"] = 2 * base_fee + tip
        else:
            fields |= {"maxFeePerGas": 2 * base_fee + GWEI, "maxPriorityFeePerGas": tip}
        if kind:
            fields["type"] = kind
            fields["accessList"] = [
                {
                    "address": _checksum(f"0x{rng.choice(self.addresses()):040x}"),
                    "storageKeys": [f"0x{rng.randint(0, 5):064x}"] * rng.randint(0, 2),
                }
                for _ in range(rng.randint(0, 3))
            ]
        if kind == 3:
            fields["maxFeePerBlobGas"] = 10**10
            numbers = [rng.randint(0, 1) for _ in range(rng.randint(1, 2))]
            fields["blobVersionedHashes"] = [_sidecar(number).versioned_hash for number in numbers]
        if kind == 4:
            fields["authorizationList"] = [self._authorization(sender) for _ in range(rng.randint(1, 3))]
        self.nonces[sender.address] += 1
        signed = bytes(sender.sign_transaction(fields).raw_transaction)
        return signed if kind != 3 else network_form(signed, numbers, cell_proofs=self.cell_proofs)

    def _authorization(self, sender: LocalAccount) -> Any:
        """Mostly valid; sometimes a wrong nonce, a foreign chain or chain 0."""
        rng = self.rng
        authority = rng.choice(self.accounts)
        nonce = self.nonces[authority.address] + (1 if authority is sender else 0)
        chain = rng.choice([self.chain_id, self.chain_id, 0, self.chain_id + 1])
        if rng.random() < 0.2:
            nonce += 1
        elif chain in (0, self.chain_id):
            # The nonce of an authority moves when its authorization holds; what the chain says in the end
            # is read back by the test before the next block.
            self.nonces[authority.address] += 1 if authority is not sender else 0
        target = rng.choice([*self.contracts, 0, int(rng.choice(self.accounts).address, 16)])
        return authority.sign_authorization(
            {"chainId": chain, "address": _checksum(f"0x{target:040x}"), "nonce": nonce}
        )


@dataclass(frozen=True)
class Sidecar:
    """A blob with both kinds of proof."""

    blob: bytes
    commitment: bytes
    proof: bytes
    cell_proofs: list[bytes]
    versioned_hash: bytes


@cache
def _sidecar(number: int) -> Sidecar:
    from eth_account.typed_transactions.base import TRUSTED_SETUP

    setup = ckzg.load_trusted_setup(TRUSTED_SETUP, 0)
    blob = b"\x00" + bytes([number + 1]) * 31 + b"\x00" * (131072 - 32)
    commitment = ckzg.blob_to_kzg_commitment(blob, setup)
    _, cell_proofs = ckzg.compute_cells_and_kzg_proofs(blob, setup)
    proof = ckzg.compute_blob_kzg_proof(blob, commitment, setup)
    return Sidecar(blob, commitment, proof, cell_proofs, b"\x01" + sha256(commitment).digest()[1:])


def network_form(signed: bytes, numbers: list[int], *, cell_proofs: bool) -> bytes:
    """A signed blob transaction with its sidecar: EIP-7594 (cell proofs) or EIP-4844 (one proof a blob)."""
    body = rlp.decode(signed[1:])
    sidecars = [_sidecar(number) for number in numbers]
    blobs = [s.blob for s in sidecars]
    commitments = [s.commitment for s in sidecars]
    if cell_proofs:
        return b"\x03" + rlp.encode(
            [body, b"\x01", blobs, commitments, [p for s in sidecars for p in s.cell_proofs]]
        )
    return b"\x03" + rlp.encode([body, blobs, commitments, [s.proof for s in sidecars]])


def _checksum(address: str) -> str:
    from eth_utils import to_checksum_address

    return str(to_checksum_address(address))
