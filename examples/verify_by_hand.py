"""Verifies one answer by hand, step by step, from the chain's raw data: what `zerog infer verify HASH --rerun` does.

    python examples/verify_by_hand.py RECEIPT_HASH [URL]

Every hash is computed here from the definitions in docs/inference.md; of zerog it uses keccak, the recovery of
a signer, the clients, and in step 5 the engine. Ends with an AssertionError at the first thing that is wrong.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence

from zerog.chain.keys import keccak256, recover
from zerog.client import Client
from zerog.contracts import INFERENCE_REGISTRY
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.engine_host import embedded

RECEIPT = (
    "InferenceReceipt(bytes32 requestId,address requester,address provider,bytes32 modelId,bytes32 engineId,"
    "bytes32 inputHash,bytes32 outputHash,bytes32 paramsHash,bytes32 traceRoot,bytes32 dataRoot,"
    "uint32 promptTokens,uint32 outputTokens,uint64 issuedAt,uint64 deadline,uint8 tier,bytes32 evidenceHash)"
)
DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
INPUT, OUTPUT, TRACE, DATA = 5, 6, 8, 9


def main(receipt_hash: bytes, url: str) -> None:
    client = Client(url)
    contracts = AuditContracts(client)
    words, signature = receipt_and_signature(client, contracts, receipt_hash)

    print("1. the receipt in the transaction hashes to the receipt hash")
    domain = keccak256(
        b"".join(keccak256(text) for text in (DOMAIN.encode(), b"ProofOfInference", b"1"))
        + client.chain_id.to_bytes(32)
        + bytes.fromhex(INFERENCE_REGISTRY[2:]).rjust(32, b"\0")
    )
    struct_hash = keccak256(keccak256(RECEIPT.encode()) + b"".join(words))
    assert keccak256(b"\x19\x01" + domain + struct_hash) == receipt_hash

    print("2. the signature is that of the provider's registered signer")
    provider = contracts.registry.providerOf("0x" + words[2][12:].hex())[0]
    assert recover(receipt_hash, signature).lower() == provider.signer.lower()

    print("3. the transcript under the data root has the committed request and output")
    request, output, leaves = read_transcript(client.storage.read(words[DATA], limit=8 << 20))
    assert (keccak256(request), keccak256(output)) == (words[INPUT], words[OUTPUT])

    print(f"4. its {len(leaves)} leaves have the committed trace root")
    hashed = [keccak256(b"\0" + struct.pack(">I", i) + leaf) for i, leaf in enumerate(leaves)]
    assert merkle_root(hashed) == words[TRACE]

    print("5. one prefill of the model gives every row, and every token is the likeliest (greedy)")
    engine = embedded()
    tokens = [struct.unpack(">I", leaf[:4])[0] for leaf in leaves]
    for token, leaf, row in zip(tokens, leaves, engine.replay(request, tokens), strict=True):
        assert keccak256(row.astype("<f4").tobytes()) == leaf[4:36]
        assert int(row.argmax()) == token
    engine.close()

    print("6. the chain's randomness drew it, and the verifiers drawn say good")
    block, rate = int(contracts.registry.receiptOf(receipt_hash).blockNumber), contracts.terms().rate_ppm
    beacon = client.block(block + contracts.terms().beacon_delay).raw["mixHash"]
    chosen = int.from_bytes(keccak256(bytes.fromhex(beacon[2:]) + receipt_hash))
    assert chosen < 2**256 * rate // 1_000_000
    audit = contracts.audit(receipt_hash)
    assert audit.members
    assert all(member.verdict == 1 for member in audit.members)
    print(f"\nall true: {output.decode(errors='replace')!r}")


def receipt_and_signature(
    client: Client, contracts: AuditContracts, receipt_hash: bytes
) -> tuple[list[bytes], bytes]:
    """From the input of the transaction: selector, sixteen words of the receipt, then where the signature is."""
    block = int(contracts.registry.receiptOf(receipt_hash).blockNumber)
    logs = client.logs(
        address=INFERENCE_REGISTRY,
        topics=[None, "0x" + receipt_hash.hex()],
        from_block=block,
        to_block=block,
    )
    sent = client.transaction(logs[0].transaction_hash or "")
    assert sent is not None
    data = bytes.fromhex(sent["input"][2:])[4:]
    words = [data[at : at + 32] for at in range(0, 512, 32)]
    offset = int.from_bytes(data[512:544])
    return words, data[offset + 32 : offset + 97]


def read_transcript(data: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """Request, output and leaves (100 bytes each) of canonical bytes."""
    at = 1

    def field() -> bytes:
        nonlocal at
        (size,) = struct.unpack_from(">I", data, at)
        at += 4 + size
        return data[at - size : at]

    assert data[0] == 1
    field()  # engine
    field()  # model's name
    at += 64  # weights root, tokenizer hash
    field()  # chat template
    field()  # quantisation
    at += 5 * 4 + 8 + 1  # parameters
    (stops,) = struct.unpack_from(">I", data, at)
    at += 4
    for _ in range(stops):
        field()
    request, output = field(), field()
    at += 1 + 4 + 64  # finish, prompt tokens, sha256 of both
    (count,) = struct.unpack_from(">I", data, at)
    assert len(data) == at + 4 + 100 * count
    return request, output, [data[at + 4 + 100 * i :][:100] for i in range(count)]


def merkle_root(level: Sequence[bytes]) -> bytes:
    """Inner node = keccak256(0x01 || left || right); an odd one moves up unchanged."""
    while len(level) > 1:
        pairs = [keccak256(b"\1" + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = [*pairs, *level[len(pairs) * 2 :]]
    return level[0]


if __name__ == "__main__":
    main(
        bytes.fromhex(sys.argv[1].removeprefix("0x")),
        sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8545",
    )
