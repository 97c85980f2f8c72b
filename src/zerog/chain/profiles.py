"""The chains that zerog knows by name: id, hard fork, gas rules.

Source: specs "Profiles and execution". A profile is data; every value can be overridden by a
setting, because public networks were re-launched under new ids more than once.
"""

from __future__ import annotations

from dataclasses import dataclass

from zerog.errors import ConfigError

HARDFORKS: tuple[str, ...] = (
    "frontier",
    "homestead",
    "tangerine",
    "spuriousdragon",
    "byzantium",
    "constantinople",
    "petersburg",
    "istanbul",
    "muirglacier",
    "berlin",
    "london",
    "arrowglacier",
    "grayglacier",
    "paris",
    "shanghai",
    "cancun",
    "prague",
    "osaka",
    "bpo1",
    "bpo2",
)
"""Hard forks from the oldest to the newest, by the names that ``--hardfork`` takes."""

_FORK_ALIASES = {
    "dao": "homestead",
    "tangerinewhistle": "tangerine",
    "eip150": "tangerine",
    "spurious": "spuriousdragon",
    "eip158": "spuriousdragon",
    "constantinoplefix": "petersburg",
    "merge": "paris",
    "latest": "osaka",
    "default": "osaka",
}


@dataclass(frozen=True, slots=True)
class GasRules:
    """How gas is charged beyond stock Ethereum.

    ``min_gas_used_percent``: a transaction pays for at least this share of its gas limit, in
    percent; 0 switches the rule off. ``min_gas_used_time``: UNIX seconds from which it holds.
    """

    min_gas_used_percent: int = 0
    min_gas_used_time: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """One chain: what distinguishes it from another.

    ``devnet_controls``: whether ``anvil_*``, ``evm_*`` and ``hardhat_*`` answer.
    ``gas_limit`` in gas; ``base_fee`` of the genesis block in wei. ``sync``: whether every commit
    waits for the disk (``full``) or the disk follows within a second (``safe``).
    """

    name: str
    chain_id: int
    hardfork: str
    gas_limit: int
    base_fee: int
    gas_rules: GasRules
    devnet_controls: bool
    sync: str


DEVNET = Profile(
    "devnet", 31337, "osaka", 30_000_000, 1_000_000_000, GasRules(), devnet_controls=True, sync="safe"
)
GALILEO = Profile(
    "galileo", 16602, "prague", 36_000_000, 1_000_000_000, GasRules(80, 0), devnet_controls=False, sync="full"
)
ARISTOTLE = Profile(
    "aristotle",
    16661,
    "prague",
    36_000_000,
    1_000_000_000,
    GasRules(80, 0),
    devnet_controls=False,
    sync="full",
)

PROFILES: dict[str, Profile] = {p.name: p for p in (DEVNET, GALILEO, ARISTOTLE)}


def profile(name: str) -> Profile:
    """The profile of that name; raises `ConfigError` for an unknown one."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise ConfigError(f"unknown profile {name!r}", hint=f"choose one of {known}") from None


def hardfork(name: str) -> str:
    """The canonical name of a hard fork; raises `ConfigError` for an unknown one."""
    plain = name.strip().lower().replace("-", "").replace("_", "").replace(" ", "")
    plain = _FORK_ALIASES.get(plain, plain)
    if plain not in HARDFORKS:
        raise ConfigError(f"unknown hard fork {name!r}", hint=f"choose one of {', '.join(HARDFORKS)}")
    return plain


def active(fork: str, since: str) -> bool:
    """True when ``fork`` includes the rules of ``since``."""
    return HARDFORKS.index(fork) >= HARDFORKS.index(since)
