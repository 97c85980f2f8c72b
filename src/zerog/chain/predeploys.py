"""Contracts that stand at fixed addresses from the genesis block on.

`system_predeploys` gives those that every Ethereum chain of a hard fork expects; the contracts of
zerog itself come from `zerog.contracts` and are joined by the composition in `zerog.node`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from zerog.chain import system_code
from zerog.chain.profiles import active

CREATE2_DEPLOYER = "0x4e59b44847b379578588920ca78fbf26c0b4956c"
MULTICALL3 = "0xca11bde05977b3631167028862be2a173976ca11"
HISTORY_STORAGE = "0x0000f90827f1c53a10cb7a02335b175320002935"
BEACON_ROOTS = "0x000f3df6d732807ef1319fb7b8bb8522d0beac02"
WITHDRAWAL_REQUESTS = "0x00000961ef480eb55e80d19ad83579a64c007002"
CONSOLIDATION_REQUESTS = "0x0000bbddc7ce488642fb579f8b00f3a590007251"

_NO_STORAGE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Predeploy:
    """A contract in the genesis state.

    ``address`` and ``code`` are 0x-hexadecimal; ``storage`` maps slot to value, both 32 bytes of
    0x-hexadecimal; ``balance`` in wei.
    """

    name: str
    address: str
    code: str
    storage: Mapping[str, str] = field(default_factory=lambda: _NO_STORAGE)
    balance: int = 0
    nonce: int = 1

    def account(self) -> dict[str, object]:
        """The account as geth's genesis format writes it."""
        entry: dict[str, object] = {
            "nonce": hex(self.nonce),
            "balance": hex(self.balance),
            "code": self.code,
        }
        if self.storage:
            entry["storage"] = dict(self.storage)
        return entry


def system_predeploys(fork: str) -> list[Predeploy]:
    """The system contracts that ``fork`` needs, the CREATE2 deployer and Multicall3.

    The latter two use opcodes of Constantinople and are left out before it.
    """
    contracts: list[Predeploy] = []
    if active(fork, "constantinople"):
        contracts.append(
            Predeploy("Create2Deployer", CREATE2_DEPLOYER, "0x" + system_code.CREATE2_DEPLOYER_CODE)
        )
    if active(fork, "istanbul"):
        contracts.append(Predeploy("Multicall3", MULTICALL3, "0x" + system_code.MULTICALL3_CODE))
    if active(fork, "cancun"):
        contracts.append(Predeploy("BeaconRoots", BEACON_ROOTS, "0x" + system_code.BEACON_ROOTS_CODE))
    if active(fork, "prague"):
        contracts += [
            Predeploy("HistoryStorage", HISTORY_STORAGE, "0x" + system_code.HISTORY_STORAGE_CODE),
            Predeploy("WithdrawalRequests", WITHDRAWAL_REQUESTS, "0x" + system_code.WITHDRAWAL_REQUESTS_CODE),
            Predeploy(
                "ConsolidationRequests",
                CONSOLIDATION_REQUESTS,
                "0x" + system_code.CONSOLIDATION_REQUESTS_CODE,
            ),
        ]
    return contracts
