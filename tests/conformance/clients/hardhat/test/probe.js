const assert = require("node:assert");
const { artifacts, network } = require("hardhat");
const { BrowserProvider, ContractFactory, JsonRpcSigner, toQuantity } = require("ethers");

const provider = new BrowserProvider(network.provider, undefined, { cacheTimeout: -1, pollingInterval: 50 });
const rpc = (method, ...params) => network.provider.send(method, params);

describe(`Probe on ${network.name}`, () => {
  let probe, signer, snapshot;

  before(async () => {
    signer = await provider.getSigner(0);
    const { abi, bytecode } = await artifacts.readArtifact("Probe");
    probe = await new ContractFactory(abi, bytecode, signer).deploy(7);
    await probe.waitForDeployment();
  });
  beforeEach(async () => { snapshot = await rpc("evm_snapshot"); });
  afterEach(async () => { assert.equal(await rpc("evm_revert", snapshot), true); });

  it("deploys and calls", async () => { assert.equal(await probe.value(), 7n); });

  it("sends through a node account and reads the event", async () => {
    const receipt = await (await probe.set(8, "hardhat")).wait();
    const [event] = await probe.queryFilter("Changed", receipt.blockNumber);
    assert.equal(event.args.note, "hardhat");
  });

  it("sees the state that the snapshot restored", async () => { assert.equal(await probe.value(), 7n); });

  it("decodes reverts", async () => {
    await assert.rejects(probe.raise.staticCall(1), /TooLow/);
    await assert.rejects(probe.refuse.staticCall(), /refused on purpose/);
  });

  it("refuses a reverting transaction when it estimates gas", async () => {
    await assert.rejects(probe.raise(1), /TooLow|revert/);
  });

  it("impersonates", async () => {
    const whale = "0x1234567890123456789012345678901234567890";
    await rpc("hardhat_setBalance", whale, toQuantity(10n ** 18n));
    await rpc("hardhat_impersonateAccount", whale);
    const receipt = await (await new JsonRpcSigner(provider, whale).sendTransaction({ to: signer.address, value: 1n })).wait();
    assert.equal(receipt.from.toLowerCase(), whale);
    await rpc("hardhat_stopImpersonatingAccount", whale);
  });

  it("travels in time and mines", async () => {
    const before = await provider.getBlock("latest");
    await rpc("evm_increaseTime", 1000);
    await rpc("hardhat_mine", "0x3");
    const after = await provider.getBlock("latest");
    assert.equal(after.number, before.number + 3);
    assert.ok(after.timestamp >= before.timestamp + 1000);
  });
});
