"""The devnet's control methods: ``anvil_*``, ``hardhat_*``, ``evm_*``, ``tenderly_*``.

Aliases are the same method. They exist in the ``devnet`` profile only; on every other chain the
node does not register them, so they answer -32601. Every method that changes the chain is one turn
of the sequencer: it happens between two blocks, never inside one.

============  ==================================================================
module        methods
============  ==================================================================
``mining``    when blocks are made, and the clock
``accounts``  balances, code, storage, impersonation, ERC-20 balances
``history``   snapshots, revert, rollback, reorg, reset, state files
``pool``      dropping transactions, unsigned transactions
``about``     what the node says about itself, logging
============  ==================================================================
"""

from __future__ import annotations

# Importing a module registers its methods.
from zerog.chain.devnet_api import about, accounts, history, mining, pool
from zerog.chain.devnet_api.control import METHODS, DevnetControl

__all__ = ["METHODS", "DevnetControl", "about", "accounts", "history", "mining", "pool"]
