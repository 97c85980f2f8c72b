// Blobs and their proofs, from the WebAssembly build of c-kzg.
import { loadKZG } from "kzg-wasm";

const toHex = (bytes) => "0x" + Buffer.from(bytes).toString("hex");
const toBytes = (hex) => Uint8Array.from(Buffer.from(hex.slice(2), "hex"));
let loaded;
const kzg = () => (loaded ??= loadKZG(0));

/** One blob in the form of EIP-7594: commitment and 128 concatenated cell proofs. */
export async function blobWithCellProofs() {
  const library = await kzg();
  const blob = new Uint8Array(131072);
  blob.set(new TextEncoder().encode("zerog"), 1);
  const data = toHex(blob);
  const { proofs } = library.computeCellsAndKZGProofs(data);
  return { data, commitment: library.blobToKZGCommitment(data), proof: "0x" + proofs.map((p) => p.slice(2)).join("") };
}

/** The library with bytes in and out, as viem wants it. */
export async function bytesKzg() {
  const library = await kzg();
  return {
    blobToKzgCommitment: (blob) => toBytes(library.blobToKZGCommitment(toHex(blob))),
    computeBlobKzgProof: (blob, commitment) => toBytes(library.computeBlobKZGProof(toHex(blob), toHex(commitment))),
  };
}
