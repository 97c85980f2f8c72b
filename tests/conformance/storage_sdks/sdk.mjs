// Drives one unmodified storage SDK: `node sdk.mjs PACKAGE` reads {"url", "jobs": […]} from stdin, runs the jobs side by
// side (those of one "lane" in order) and writes one JSON line per job: {"job", "ok", "result" | "error"}.
import { readFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { ethers } from 'ethers';

const require = createRequire(import.meta.url);
const sdk = require(process.argv[2]);
// The SDKs talk on stdout; ours carries the results.
for (const level of ['log', 'info', 'warn', 'error', 'debug']) console[level] = () => {};

const { url, jobs } = JSON.parse(readFileSync(0, 'utf8'));
const signer = (key, chain = url) => new ethers.Wallet(key, new ethers.JsonRpcProvider(chain));
const bytes = (hex) => ethers.getBytes(hex);
const check = (outcome) => {
  if (outcome instanceof Error) throw outcome;
  if (Array.isArray(outcome) && outcome.length === 2 && (outcome[1] instanceof Error || outcome[1] === null)) {
    if (outcome[1]) throw outcome[1];
    return outcome[0];
  }
  return outcome;
};

async function storageNodes() {
  const { trusted } = await new sdk.Indexer(url).getShardedNodes();
  return trusted.map((node) => new sdk.StorageNode(node.url));
}

const operations = {
  async root({ file }) {
    const opened = await sdk.ZgFile.fromFilePath(file);
    const tree = check(await opened.merkleTree());
    await opened.close();
    return tree.rootHash();
  },
  // `chain` is the chain's URL where it is not the node's.
  async upload({ file, key, options, chain = url }) {
    const opened = await sdk.ZgFile.fromFilePath(file);
    try {
      const chosen = options && convert(options);
      return check(await new sdk.Indexer(url).upload(opened, chain, signer(key, chain), chosen));
    } finally {
      await opened.close();
    }
  },
  async download({ root, file, proof }) {
    check(await new sdk.Indexer(url).download(root, file, proof ?? true));
    return file;
  },
  async downloadDecrypted({ roots, decryption }) {
    const blob = check(await new sdk.Indexer(url).downloadToBlob(roots, { decryption: convert(decryption) }));
    return ethers.hexlify(new Uint8Array(await blob.arrayBuffer()));
  },
  async kvWrite({ key, version, writes }) {
    const nodes = await storageNodes();
    const status = await nodes[0].getStatus();
    const flow = sdk.getFlowContract(status.networkIdentity.flowAddress, signer(key));
    const batcher = new sdk.Batcher(version, nodes, flow, url);
    for (const [stream, name, value] of writes) batcher.streamDataBuilder.set(stream, bytes(name), bytes(value));
    return check(await batcher.exec());
  },
  async kvRead({ stream, name, version }) {
    return new sdk.KvClient(url).getValue(stream, argument(name), version);
  },
  async kvIterate({ stream, version }) {
    const iterator = new sdk.KvClient(url).newIterator(stream, version);
    check(await iterator.seekToFirst());
    const pairs = [];
    while (iterator.valid() && pairs.length < 1000) {
      pairs.push(iterator.getCurrentPair());
      check(await iterator.next());
    }
    return pairs;
  },
  async kvCall({ method, args }) {
    return new sdk.KvClient(url)[method](...args.map(argument));
  },
};

// "bytes:0x…" stands for a Uint8Array, "base64:0x…" for the text that the older SDK wants as a key.
function argument(value) {
  if (typeof value !== 'string') return value;
  if (value.startsWith('bytes:')) return bytes(value.slice(6));
  if (value.startsWith('base64:')) return Buffer.from(bytes(value.slice(7))).toString('base64');
  return value;
}

function convert(value) {
  if (Array.isArray(value)) return value.map(convert);
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, convert(entry)]));
  }
  if (typeof value === 'string' && value.startsWith('bigint:')) return BigInt(value.slice(7));
  return argument(value);
}

const plain = (_, value) => (typeof value === 'bigint' ? value.toString() : value);

async function run(index, job) {
  const line = { job: index };
  try {
    line.result = (await operations[job.op](job)) ?? null;
    line.ok = true;
  } catch (error) {
    line.ok = false;
    line.error = String(error?.message ?? error);
  }
  // Written whole before the process ends, however long it is.
  const text = Buffer.from(JSON.stringify(line, plain) + '\n');
  for (let sent = 0; sent < text.length; ) {
    try {
      sent += writeSync(1, text, sent);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

const lanes = new Map();
jobs.forEach((job, index) => {
  const lane = job.lane ?? index;
  lanes.set(lane, (lanes.get(lane) ?? Promise.resolve()).then(() => run(index, job)));
});
await Promise.all(lanes.values());
process.exit(0);
