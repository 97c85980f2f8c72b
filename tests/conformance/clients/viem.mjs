import { createPublicClient, createTestClient, createWalletClient, defineChain, http, parseEther, toBlobs, webSocket, BaseError, ContractFunctionRevertedError } from "viem";
import { privateKeyToAccount, generatePrivateKey } from "viem/accounts";
import { bytesKzg } from "./kzg.mjs";
import { KEY, KEY2, WHALE, compile, equal, rpc, run, url, within, wsUrl } from "./checks.mjs";

const id = Number(await rpc("eth_chainId"));
const chain = defineChain({ id, name: "zerog", nativeCurrency: { name: "0G", symbol: "0G", decimals: 18 }, rpcUrls: { default: { http: [url], webSocket: [wsUrl] } } });
const account = privateKeyToAccount(KEY);
const other = privateKeyToAccount(KEY2);
const reader = createPublicClient({ chain, transport: http(url), pollingInterval: 50, cacheTime: 0 });
const writer = createWalletClient({ chain, account, transport: http(url) });
const controls = createTestClient({ chain, mode: "anvil", transport: http(url) });
const { abi, bytecode } = compile();
let address;

const mined = async (hash, type) => {
  const receipt = await reader.waitForTransactionReceipt({ hash });
  equal(receipt.status, "success", "status");
  if (type) {
    equal(receipt.type, type, "receipt type");
    equal((await reader.getTransaction({ hash })).type, type, "transaction type");
  }
  return receipt;
};
const reverted = async (functionName, args) => {
  try {
    await reader.simulateContract({ account, address, abi, functionName, args });
  } catch (error) {
    if (!(error instanceof BaseError)) throw error;
    return error.walk((e) => e instanceof ContractFunctionRevertedError);
  }
  throw new Error(`${functionName} did not revert`);
};
const set = (value, note) => writer.writeContract({ address, abi, functionName: "set", args: [value, note] });
const value = () => reader.readContract({ address, abi, functionName: "value" });

await run({
  deploy: async () => {
    const receipt = await mined(await writer.deployContract({ abi, bytecode, args: [7n], value: 5n }));
    address = receipt.contractAddress;
    equal(await value(), 7n, "constructor argument");
    equal(await reader.getBalance({ address }), 5n, "endowment");
  },
  call: async () => {
    const [, , chainId, sender] = await reader.readContract({ account, address, abi, functionName: "context" });
    equal(chainId, BigInt(id), "chain id");
    equal(sender, account.address, "sender of a call");
  },
  events: async () => {
    const receipt = await mined(await set(11n, "first"));
    const logs = await reader.getContractEvents({ address, abi, eventName: "Changed", args: { by: account.address }, fromBlock: receipt.blockNumber });
    equal(logs.length, 1, "number of logs");
    equal(logs[0].args.note, "first", "decoded note");
    equal(logs[0].blockHash, receipt.blockHash, "log block hash");
  },
  websocket_subscription: async () => {
    const live = createPublicClient({ chain, transport: webSocket(wsUrl, { keepAlive: false, reconnect: false }) });
    const heads = [];
    const stop = live.watchBlocks({ onBlock: (block) => heads.push(block), emitOnBegin: false });
    let stopEvents;
    const seen = new Promise((resolve) => { stopEvents = live.watchContractEvent({ address, abi, eventName: "Changed", onLogs: (logs) => resolve(logs[0].args.value) }); });
    await live.getBlockNumber();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const receipt = await mined(await set(12n, "live"));
    equal(await within(seen, 30_000, "log subscription"), 12n, "value of the live event");
    await within((async () => { while (!heads.some((b) => b.hash === receipt.blockHash)) await new Promise((r) => setTimeout(r, 20)); })(), 30_000, "newHeads subscription");
    stop(); stopEvents();
    (await live.transport.getRpcClient()).close();
  },
  custom_error: async () => {
    const error = await reverted("raise", [1n]);
    equal(error.data.errorName, "TooLow", "custom error name");
    equal(error.data.args[0], 1n, "custom error argument");
  },
  revert_reason: async () => equal((await reverted("refuse", [])).reason, "refused on purpose", "reason"),
  panic: async () => equal((await reverted("overflow", [1])).data.errorName, "Panic", "panic"),
  type_0_legacy: async () => mined(await writer.sendTransaction({ to: other.address, value: 1n, type: "legacy", gasPrice: await reader.getGasPrice() }), "legacy"),
  type_1_access_list: async () => mined(await writer.sendTransaction({ to: other.address, value: 1n, gasPrice: await reader.getGasPrice(), accessList: [{ address, storageKeys: [] }] }), "eip2930"),
  type_2_dynamic_fee: async () => mined(await writer.sendTransaction({ to: other.address, value: 1n }), "eip1559"),
  type_3_blob: async () => {
    // EIP-4844 network form: one proof per blob, as viem sends it.
    const receipt = await mined(await writer.sendTransaction({ to: other.address, blobs: toBlobs({ data: "0x" + "68656c6c6f".repeat(20) }), kzg: await bytesKzg(), maxFeePerBlobGas: 10n ** 10n }), "eip4844");
    equal(receipt.blobGasUsed, 131072n, "blob gas used");
  },
  type_4_set_code: async () => {
    const authority = privateKeyToAccount(generatePrivateKey());
    const authorization = await writer.signAuthorization({ account: authority, contractAddress: address, executor: account, nonce: 0, chainId: id });
    await mined(await writer.sendTransaction({ to: authority.address, authorizationList: [authorization], gas: 200_000n }), "eip7702");
    equal(await reader.getCode({ address: authority.address }), ("0xef0100" + address.slice(2)).toLowerCase(), "delegation");
  },
  snapshot_and_revert: async () => {
    const before = await value();
    const snapshot = await controls.snapshot();
    await mined(await set(before + 1n, "lost"));
    await controls.revert({ id: snapshot });
    equal(await value(), before, "value after the revert");
  },
  impersonation: async () => {
    await controls.setBalance({ address: WHALE, value: parseEther("3") });
    await controls.impersonateAccount({ address: WHALE });
    const hash = await createWalletClient({ chain, transport: http(url) }).sendTransaction({ account: WHALE, to: account.address, value: parseEther("1") });
    equal((await mined(hash)).from, WHALE.toLowerCase(), "sender");
    await controls.stopImpersonatingAccount({ address: WHALE });
  },
  time_travel: async () => {
    const start = (await reader.getBlock()).timestamp;
    await controls.increaseTime({ seconds: 3600 });
    await controls.mine({ blocks: 1 });
    const later = (await reader.getBlock()).timestamp;
    if (later < start + 3600n) throw new Error(`time moved by ${later - start} s only`);
    await controls.setNextBlockTimestamp({ timestamp: later + 100n });
    await controls.mine({ blocks: 1 });
    equal((await reader.getBlock()).timestamp, later + 100n, "exact timestamp");
  },
  set_code_and_storage: async () => {
    const target = "0x1000000000000000000000000000000000000001";
    await controls.setCode({ address: target, bytecode: "0x60005460005260206000f3" });
    await controls.setStorageAt({ address: target, index: 0, value: "0x" + "2a".padStart(64, "0") });
    equal((await reader.call({ to: target })).data, "0x" + "2a".padStart(64, "0"), "stored value");
  },
});
