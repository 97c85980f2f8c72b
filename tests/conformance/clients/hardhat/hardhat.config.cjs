const { subtask } = require("hardhat/config");
const { TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD } = require("hardhat/builtin-tasks/task-names");

const version = "0.8.30";
// The compiler comes from npm; hardhat would download its own.
subtask(TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD, async () => ({
  compilerPath: require.resolve("solc/soljson.js"),
  isSolcJs: true,
  version,
  longVersion: require("solc").version(),
}));

module.exports = {
  solidity: { version, settings: { evmVersion: "cancun" } },
  networks: {
    zerog: { url: process.env.ZEROG_URL },
    // Hardhat's own chain, forked from the node under test.
    hardhat: process.env.FORK ? { forking: { url: process.env.ZEROG_URL }, chainId: 31337 } : {},
  },
  paths: { cache: process.env.HARDHAT_OUT + "/cache", artifacts: process.env.HARDHAT_OUT + "/artifacts" },
  mocha: { timeout: 60000 },
};
