#!/usr/bin/env node
// The npm Solidity compiler behind the command line of the native one, as forge calls it:
// `--version`, and `--standard-json` from standard input.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
const solc = createRequire(import.meta.url)("solc");
if (process.argv.includes("--version")) {
  const version = solc.version().replace(".Emscripten.clang", ".Linux.g++");
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${version}`);
} else {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
}
