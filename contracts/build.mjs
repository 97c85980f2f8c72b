// Compiles every contract with the pinned compiler and writes one artifact a contract, or with --check compares
// the committed artifacts with a fresh build. With --coverage FOLDER it writes a build for measuring coverage there:
// the same artifacts without optimiser, whose code follows the source line by line, and source maps and syntax trees.
// Needs no network: sources, OpenZeppelin and solc come from npm ci.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const repository = dirname(here);
const EIP_170_LIMIT = 24_576;
const SIZE_BUDGET = Math.floor(EIP_170_LIMIT * 0.8);
// Where a predeploy has the short address of a collaborator, its portable twin has an immutable of 32 bytes.
const PORTABLE_BUDGET = Math.floor(EIP_170_LIMIT * 0.83);
const budgetOf = (source) => (source.startsWith("inference/portable/") ? PORTABLE_BUDGET : SIZE_BUDGET);

// Which folder's contracts land where. Mocks serve tests only and are not shipped.
const OUTPUTS = [
  { from: ["inference/", "validation/", "storage/", "examples/"], to: join(repository, "src/zerog/contracts/artifacts") },
  { from: ["mocks/"], to: join(repository, "tests/contracts/artifacts") },
];

// "at" may become a keyword; it is the name of a function that clients of the storage contracts know.
const TOLERATED_WARNINGS = new Set(["6335"]);

function solidityFiles(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.name !== "node_modules")
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return solidityFiles(path);
      return entry.name.endsWith(".sol") ? [path] : [];
    })
    .sort();
}

function readImport(name) {
  const path = join(here, "node_modules", name);
  return existsSync(path) ? { contents: readFileSync(path, "utf8") } : { error: `${name} is not installed: run npm ci` };
}

const OPTIMISED = { enabled: true, runs: 10_000 };
// Steps that merge, move or inline code would blur which line an instruction belongs to. The Yul optimiser works on
// code the compiler generates (decoding, checks), which coverage does not count.
// Nobody deploys it: the limits on code and its creation do not matter.
const SIZE_WARNINGS = ["5574", "3860"];
const LINE_BY_LINE = {
  enabled: false,
  details: {
    peephole: false,
    inliner: false,
    jumpdestRemover: false,
    orderLiterals: false,
    deduplicate: false,
    cse: false,
    constantOptimizer: false,
    yul: false,
  },
};

function compile(optimizer, more = [], tolerated = TOLERATED_WARNINGS) {
  const sources = Object.fromEntries(
    solidityFiles(here).map((path) => [
      relative(here, path).split(sep).join("/"),
      { content: readFileSync(path, "utf8") },
    ]),
  );
  const input = {
    language: "Solidity",
    sources,
    settings: {
      evmVersion: "cancun",
      optimizer,
      outputSelection: {
        "*": { "": ["ast"], "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode", "storageLayout", "metadata", ...more] },
      },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
  // Warnings in our own sources count as errors; those in a pinned library are its own affair.
  const messages = (output.errors ?? []).filter(
    ({ severity, errorCode, sourceLocation }) =>
      severity === "error" ||
      !(tolerated.has(errorCode) || sourceLocation?.file.startsWith("@openzeppelin/")),
  );
  for (const message of messages) console.error(message.errorCode, message.formattedMessage);
  if (messages.length > 0) throw new Error("the compiler reported the problems above");
  const names = immutableNames(output.sources);
  return { contracts: output.contracts, sources: output.sources, names };
}

// Immutables by the compiler's id, which changes with unrelated edits; artifacts refer to them by name.
function immutableNames(sources) {
  const names = new Map();
  const visit = (node) => {
    if (node.nodeType === "VariableDeclaration" && node.mutability === "immutable") names.set(String(node.id), node.name);
    for (const child of node.nodes ?? []) visit(child);
  };
  for (const { ast } of Object.values(sources)) visit(ast);
  return names;
}

function referencesByName(references, names) {
  return Object.fromEntries(Object.entries(references ?? {}).map(([id, places]) => [names.get(id), places]).sort());
}

function artifactOf(source, name, contract, names, budget = budgetOf(source)) {
  const deployed = contract.evm.deployedBytecode;
  const size = deployed.object.length / 2;
  if (size > budget) throw new Error(`${name} has ${size} bytes, more than its budget of ${budget}`);
  return {
    contractName: name,
    sourceName: source,
    solcVersion: solc.version(),
    metadataSha256: createHash("sha256").update(contract.metadata).digest("hex"),
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
    deployedBytecode: `0x${deployed.object}`,
    immutableReferences: referencesByName(deployed.immutableReferences, names),
    storageLayout: plainLayout(contract.storageLayout),
  };
}

// Compiler ids of types change with unrelated edits: labels without AST ids keep diffs about the layout.
function plainLayout(layout) {
  const strip = (text) => text.replace(/\)\d+_/g, ")_").replace(/(\w)\)(\d+)(?=[,)]|$)/g, "$1)");
  return {
    storage: layout.storage.map(({ label, slot, offset, type }) => ({ label, slot, offset, type: strip(type) })),
    types: Object.fromEntries(
      Object.entries(layout.types ?? {}).map(([key, type]) => [
        strip(key),
        {
          label: type.label,
          encoding: type.encoding,
          numberOfBytes: type.numberOfBytes,
          ...(type.members && {
            members: type.members.map(({ label, slot, offset, type: t }) => ({ label, slot, offset, type: strip(t) })),
          }),
        },
      ]),
    ),
  };
}

function artifacts() {
  const files = new Map();
  const { contracts: bySource, names } = compile(OPTIMISED);
  for (const [source, contracts] of Object.entries(bySource)) {
    const target = OUTPUTS.find(({ from }) => from.some((prefix) => source.startsWith(prefix)));
    if (!target) continue;
    for (const [name, contract] of Object.entries(contracts)) {
      // Interfaces, abstract contracts and internal libraries have nothing to deploy but may have an interface.
      if (contract.abi.length === 0) continue;
      files.set(join(target.to, `${name}.json`), `${JSON.stringify(artifactOf(source, name, contract, names), null, 1)}\n`);
    }
  }
  return files;
}

function committed() {
  return OUTPUTS.filter(({ to }) => existsSync(to)).flatMap(({ to }) =>
    readdirSync(to).filter((name) => name.endsWith(".json")).map((name) => join(to, name)),
  );
}

// What tests/contracts/coverage reads.
function writeCoverageBuild(folder) {
  const { contracts: bySource, sources, names } = compile(
    LINE_BY_LINE,
    ["evm.bytecode.sourceMap"],
    new Set([...TOLERATED_WARNINGS, ...SIZE_WARNINGS]),
  );
  const programs = [];
  for (const [source, contracts] of Object.entries(bySource)) {
    const target = OUTPUTS.find(({ from }) => from.some((prefix) => source.startsWith(prefix)));
    for (const [name, contract] of Object.entries(contracts)) {
      const { bytecode, deployedBytecode } = contract.evm;
      if (bytecode.object) {
        const immutables = Object.values(deployedBytecode.immutableReferences ?? {}).flat();
        programs.push({ source, name, kind: "creation", code: bytecode.object, map: bytecode.sourceMap, immutables: [] });
        programs.push({ source, name, kind: "runtime", code: deployedBytecode.object, map: deployedBytecode.sourceMap, immutables });
      }
      if (!target || contract.abi.length === 0) continue;
      const to = join(folder, relative(repository, target.to));
      mkdirSync(to, { recursive: true });
      writeFileSync(join(to, `${name}.json`), JSON.stringify(artifactOf(source, name, contract, names, Infinity)));
    }
  }
  const ours = Object.entries(sources).filter(([path]) => OUTPUTS.some(({ from }) => from.some((prefix) => path.startsWith(prefix))));
  const trees = ours.map(([path, { id, ast }]) => ({ path, id, ast }));
  writeFileSync(join(folder, "programs.json"), JSON.stringify({ programs, trees }));
}

const coverage = process.argv.indexOf("--coverage");
if (coverage !== -1) {
  writeCoverageBuild(process.argv[coverage + 1]);
  process.exit(0);
}

const fresh = artifacts();
const stale = committed().filter((path) => !fresh.has(path));
const differing = [...fresh].filter(([path, text]) => !existsSync(path) || readFileSync(path, "utf8") !== text);

if (process.argv.includes("--check")) {
  for (const [path] of differing) console.error(`differs from its source: ${relative(repository, path)}`);
  for (const path of stale) console.error(`has no source: ${relative(repository, path)}`);
  if (differing.length + stale.length > 0) {
    console.error("run: node contracts/build.mjs");
    process.exit(1);
  }
  console.log(`${fresh.size} artifacts match their sources (solc ${solc.version()})`);
} else {
  for (const { to } of OUTPUTS) mkdirSync(to, { recursive: true });
  for (const [path, text] of differing) writeFileSync(path, text);
  for (const path of stale) rmSync(path);
  console.log(`${differing.length} of ${fresh.size} artifacts written (solc ${solc.version()})`);
}
