// Runs named checks against a node and prints one JSON line per check: {"check", "ok", "error"}.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
const solc = createRequire(import.meta.url)("solc");

export const url = process.argv[2];
export const wsUrl = url.replace(/^http/, "ws");
// The first and second of the well-known development accounts.
export const KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
export const KEY2 = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
export const WHALE = "0x1234567890123456789012345678901234567890";

export function compile() {
  const content = readFileSync(new URL("forge/src/Probe.sol", import.meta.url), "utf8");
  const output = JSON.parse(solc.compile(JSON.stringify({
    language: "Solidity",
    sources: { "Probe.sol": { content } },
    settings: { evmVersion: "cancun", outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
  })));
  const contract = output.contracts["Probe.sol"].Probe;
  return { abi: contract.abi, bytecode: "0x" + contract.evm.bytecode.object };
}

export async function rpc(method, params = []) {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  });
  const { result, error } = await answer.json();
  if (error) throw Object.assign(new Error(error.message), { code: error.code, data: error.data });
  return result;
}

export function equal(actual, expected, what) {
  const show = (v) => (typeof v === "bigint" ? `${v}n` : JSON.stringify(v, (_, x) => (typeof x === "bigint" ? `${x}` : x)));
  if (show(actual) !== show(expected)) throw new Error(`${what}: expected ${show(expected)}, got ${show(actual)}`);
}

export function within(promise, ms, what) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export async function run(checks) {
  let failed = false;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await within(check(), 120_000, name);
      console.log(JSON.stringify({ check: name, ok: true }));
    } catch (error) {
      failed = true;
      console.log(JSON.stringify({ check: name, ok: false, error: String(error.stack ?? error).slice(0, 2000) }));
    }
  }
  process.exit(failed ? 1 : 0);
}
