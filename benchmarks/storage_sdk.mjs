// The official TypeScript SDK, unmodified, as a server of jobs: `node storage_sdk.mjs FOLDER PACKAGE`, where FOLDER holds
// node_modules. One JSON job per line of stdin, one JSON answer per line of stdout: {"seconds", "root"} or {"error"}.
// Only the work is timed, not the start of node.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [folder, name] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const sdk = require(name);
const { ethers } = require('ethers');
// The SDK talks on stdout; ours carries the answers.
for (const level of ['log', 'info', 'warn', 'error', 'debug']) console[level] = () => {};

const checked = ([value, error]) => {
  if (error) throw error;
  return value;
};

const operations = {
  async root({ file }) {
    const opened = await sdk.ZgFile.fromFilePath(file);
    try {
      return checked(await opened.merkleTree()).rootHash();
    } finally {
      await opened.close();
    }
  },
  async put({ url, file, key }) {
    const opened = await sdk.ZgFile.fromFilePath(file);
    try {
      const signer = new ethers.Wallet(key, new ethers.JsonRpcProvider(url));
      return checked(await new sdk.Indexer(url).upload(opened, url, signer)).rootHash;
    } finally {
      await opened.close();
    }
  },
  async get({ url, root, file }) {
    const error = await new sdk.Indexer(url).download(root, file, true);
    if (error) throw error;
    return root;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  let answer;
  try {
    const begin = process.hrtime.bigint();
    const root = await operations[job.op](job);
    answer = { seconds: Number(process.hrtime.bigint() - begin) / 1e9, root };
  } catch (error) {
    answer = { error: String(error?.message ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
process.exit(0);
