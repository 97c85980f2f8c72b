import { ContractFactory, JsonRpcProvider, Wallet, WebSocketProvider, parseEther, ethers } from "ethers";
import { blobWithCellProofs } from "./kzg.mjs";
import { KEY, KEY2, WHALE, compile, equal, rpc, run, url, within, wsUrl } from "./checks.mjs";

const provider = new JsonRpcProvider(url, undefined, { polling: true, pollingInterval: 50, cacheTimeout: -1 });
const wallet = new Wallet(KEY, provider);
const { abi, bytecode } = compile();
let probe;

async function sendOfType(overrides) {
  const sent = await wallet.sendTransaction({ to: new Wallet(KEY2).address, value: 1n, ...overrides });
  const receipt = await sent.wait();
  equal(receipt.status, 1, "status");
  equal(receipt.type, overrides.type, "receipt type");
  const mined = await provider.getTransaction(sent.hash);
  equal(mined.type, overrides.type, "transaction type");
  equal(mined.from, wallet.address, "sender");
  const block = await provider.getBlock(receipt.blockNumber);
  equal(receipt.blockHash, block.hash, "block hash");
}

await run({
  deploy: async () => {
    probe = await new ContractFactory(abi, bytecode, wallet).deploy(7, { value: 5n });
    await probe.waitForDeployment();
    equal(await probe.value(), 7n, "constructor argument");
    equal(await provider.getBalance(probe.target), 5n, "endowment");
  },
  call: async () => {
    const [number, time, chain, sender] = await probe.context.staticCall();
    equal(chain, (await provider.getNetwork()).chainId, "chain id");
    equal(sender, wallet.address, "sender of a call");
    if (number <= 0n || time <= 0n) throw new Error("no block context");
  },
  events: async () => {
    const receipt = await (await probe.set(11, "first")).wait();
    const logs = await probe.queryFilter(probe.filters.Changed(wallet.address), receipt.blockNumber);
    equal(logs.length, 1, "number of logs");
    equal(logs[0].args.note, "first", "decoded note");
    equal(logs[0].blockHash, receipt.blockHash, "log block hash");
  },
  websocket_subscription: async () => {
    const socket = new WebSocketProvider(wsUrl);
    try {
      const live = new ethers.Contract(probe.target, abi, socket);
      const seen = new Promise((resolve) => live.on("Changed", (_by, value) => resolve(value)));
      const head = new Promise((resolve) => socket.on("block", resolve));
      await within(socket.getBlockNumber(), 30_000, "socket");
      await new Promise((resolve) => setTimeout(resolve, 100));
      const receipt = await (await probe.set(12, "live")).wait();
      equal(await within(seen, 30_000, "log subscription"), 12n, "value of the live event");
      equal(await within(head, 30_000, "newHeads subscription"), receipt.blockNumber, "number of the new head");
    } finally {
      await socket.destroy();
    }
  },
  custom_error: async () => {
    try {
      await probe.raise.staticCall(1);
      throw new Error("raise(1) did not revert");
    } catch (error) {
      equal(error.revert?.name, "TooLow", "custom error name");
      equal(error.revert.args.offered, 1n, "custom error argument");
    }
  },
  revert_reason: async () => {
    try {
      await probe.refuse.staticCall();
      throw new Error("refuse() did not revert");
    } catch (error) {
      equal(error.reason, "refused on purpose", "reason");
    }
  },
  panic: async () => {
    try {
      await probe.overflow.staticCall(1);
      throw new Error("overflow(1) did not panic");
    } catch (error) {
      equal(error.revert?.name, "Panic", "panic");
      equal(BigInt(error.revert.args[0]), 0x11n, "panic code");
    }
  },
  failed_transaction_has_a_receipt: async () => {
    const sent = await probe.refuse.populateTransaction();
    const tx = await wallet.sendTransaction({ ...sent, gasLimit: 100_000n });
    const receipt = await provider.waitForTransaction(tx.hash, 1, 5000).catch((error) => error.receipt);
    equal(receipt.status, 0, "status");
    equal((await provider.getBlock(receipt.blockNumber)).hash, receipt.blockHash, "block of the failed transaction");
  },
  type_0_legacy: () => sendOfType({ type: 0 }),
  type_1_access_list: () => sendOfType({ type: 1, accessList: [{ address: probe.target, storageKeys: [ethers.ZeroHash] }] }),
  type_2_dynamic_fee: () => sendOfType({ type: 2 }),
  type_3_blob: async () => {
    // EIP-7594 network form: cell proofs, wrapper version 1.
    await sendOfType({ type: 3, blobs: [await blobWithCellProofs()], blobWrapperVersion: 1, maxFeePerBlobGas: 10n ** 10n });
  },
  type_4_set_code: async () => {
    const authority = Wallet.createRandom(provider);
    const auth = await authority.authorize({ address: probe.target, nonce: 0, chainId: (await provider.getNetwork()).chainId });
    const sent = await wallet.sendTransaction({ type: 4, to: authority.address, authorizationList: [auth], gasLimit: 200_000n });
    equal((await sent.wait()).status, 1, "status");
    equal((await provider.getCode(authority.address)).toLowerCase(), ("0xef0100" + probe.target.slice(2)).toLowerCase(), "delegation");
  },
  snapshot_and_revert: async () => {
    const before = await probe.value();
    const id = await rpc("evm_snapshot");
    await (await probe.set(before + 1n, "lost")).wait();
    equal(await probe.value(), before + 1n, "value before the revert");
    equal(await rpc("evm_revert", [id]), true, "evm_revert");
    equal(await probe.value(), before, "value after the revert");
    equal(await rpc("evm_revert", [id]), false, "second evm_revert of the same id");
  },
  impersonation: async () => {
    await rpc("anvil_setBalance", [WHALE, ethers.toQuantity(parseEther("3"))]);
    await rpc("anvil_impersonateAccount", [WHALE]);
    const signer = new ethers.JsonRpcSigner(provider, WHALE);
    const receipt = await (await signer.sendTransaction({ to: wallet.address, value: parseEther("1") })).wait();
    equal(receipt.from, WHALE, "sender");
    await rpc("anvil_stopImpersonatingAccount", [WHALE]);
    let refused = false;
    await rpc("eth_sendTransaction", [{ from: WHALE, to: wallet.address, value: "0x1" }]).catch(() => { refused = true; });
    equal(refused, true, "refused after stopImpersonatingAccount");
  },
  time_travel: async () => {
    const start = (await provider.getBlock("latest")).timestamp;
    await rpc("evm_increaseTime", [3600]);
    await rpc("evm_mine");
    const later = (await provider.getBlock("latest")).timestamp;
    if (later < start + 3600) throw new Error(`time moved by ${later - start} s only`);
    await rpc("evm_setNextBlockTimestamp", [later + 100]);
    await rpc("evm_mine");
    equal((await provider.getBlock("latest")).timestamp, later + 100, "exact timestamp");
  },
});
