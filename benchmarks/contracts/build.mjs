// Compiles the benchmark's contracts into artifacts.json (solc from contracts/node_modules).
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
const solc = createRequire(new URL("../../contracts/package.json", import.meta.url))("solc");
const read = (name) => ({ content: readFileSync(new URL(`${name}.sol`, import.meta.url), "utf8") });
const names = ["BenchToken", "BenchPool"];
const output = JSON.parse(solc.compile(JSON.stringify({
  language: "Solidity",
  sources: Object.fromEntries(names.map((name) => [`${name}.sol`, read(name)])),
  settings: {
    evmVersion: "cancun", optimizer: { enabled: true, runs: 200 }, metadata: { bytecodeHash: "none" },
    outputSelection: { "*": { "*": ["evm.bytecode.object"] } },
  },
})));
for (const error of output.errors ?? []) console.error(error.formattedMessage);
const bytecode = (name) => "0x" + output.contracts[`${name}.sol`][name].evm.bytecode.object;
const artifacts = Object.fromEntries(names.map((name) => [name, bytecode(name)]));
writeFileSync(new URL("artifacts.json", import.meta.url), JSON.stringify(artifacts, null, 2) + "\n");
