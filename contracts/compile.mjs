// Compiles one source without imports, for example a generated proof verifier, with the pinned compiler:
//   node contracts/compile.mjs verifier.sol > verifier.json       {"<contract>": {"abi", "bytecode"}}
import { readFileSync } from "node:fs";
import solc from "solc";

const path = process.argv[2];
const input = {
  language: "Solidity",
  sources: { [path]: { content: readFileSync(path, "utf8") } },
  settings: {
    evmVersion: "cancun",
    optimizer: { enabled: true, runs: 200 },
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
  },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
const errors = (output.errors ?? []).filter(({ severity }) => severity === "error");
if (errors.length > 0) {
  for (const { formattedMessage } of errors) console.error(formattedMessage);
  process.exit(1);
}
const contracts = Object.entries(output.contracts[path]);
const found = contracts.map(([name, { abi, evm }]) => [name, { abi, bytecode: `0x${evm.bytecode.object}` }]);
console.log(JSON.stringify(Object.fromEntries(found)));
