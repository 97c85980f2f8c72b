"""`Contract`: a contract as a Python object.

::

    token = client.contract(address, abi, account=alice)
    token                                      # <Contract 0x… balanceOf(address) transfer(…)>
    token.balanceOf(bob)                       # a view function calls
    token.transfer(bob, 5)                     # any other sends, waits, returns a Receipt
    token.transfer.call(bob, 5)                # what it would return
    token.events.Transfer(to=bob)              # past events, filtered by indexed arguments
    token.decode(receipt)                      # the events of one receipt

Structs take a mapping, a sequence or a named tuple, and come back as named tuples. Where a name is
taken or overloaded, use the signature: ``token.functions["transfer(address,uint256)"]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zerog.client.abi import Abi, EventType, Function
from zerog.client.values import Log, Receipt, data
from zerog.errors import AbiError, ContractReverted

if TYPE_CHECKING:
    from zerog.client.accounts import Account
    from zerog.client.client import BlockId, Client


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded event; its arguments are attributes, too."""

    name: str
    args: dict[str, Any]
    log: Log = field(repr=False)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.args[name]
        except KeyError:
            raise AttributeError(f"event {self.name} has no argument {name!r}") from None

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.args.items())
        return f"<{self.name}({arguments})>"


class ContractFunction:
    """One function of a contract, with all its overloads."""

    def __init__(self, contract: Contract, overloads: Sequence[Function]) -> None:
        self._contract = contract
        self._overloads = overloads

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Calls a view function; sends any other and returns its `Receipt`."""
        function, input = self._encoded(arguments)
        if function.is_view:
            return self._call(function, input, options)
        return self._send(input, options)

    def call(self, *arguments: Any, **options: Any) -> Any:
        """What the function would return, without sending."""
        function, input = self._encoded(arguments)
        return self._call(function, input, options)

    def send(self, *arguments: Any, **options: Any) -> Receipt:
        """Sends, even a view function."""
        return self._send(self._encoded(arguments)[1], options)

    def encode(self, *arguments: Any) -> bytes:
        """Selector and arguments."""
        return self._encoded(arguments)[1]

    def estimate_gas(self, *arguments: Any, **options: Any) -> int:
        """Gas that sending needs."""
        contract = self._contract
        options.setdefault("account", contract.account)
        try:
            return contract.client.estimate_gas(contract.address, self._encoded(arguments)[1], **options)
        except ContractReverted as error:
            raise contract.explained(error) from None

    def _encoded(self, arguments: tuple[Any, ...]) -> tuple[Function, bytes]:
        """The first overload that takes the arguments."""
        fitting = [f for f in self._overloads if len(f.inputs) == len(arguments)]
        if not fitting:
            signatures = " or ".join(f.signature for f in self._overloads)
            raise AbiError(f"{signatures} cannot take {len(arguments)} arguments")
        failure: AbiError | None = None
        for function in fitting:
            try:
                return function, function.encode(arguments)
            except AbiError as error:
                failure = error
        assert failure is not None
        raise AbiError(f"{self._overloads[0].name}: {failure.message}")

    def _call(self, function: Function, input: bytes, options: dict[str, Any]) -> Any:
        contract = self._contract
        options.setdefault("account", contract.account)
        try:
            raw = contract.client.call(contract.address, input, **options)
        except ContractReverted as error:
            raise contract.explained(error) from None
        if not raw and function.outputs and not contract.client.code(contract.address):
            raise AbiError(f"there is no contract at {contract.address}")
        return function.decode(raw)

    def _send(self, input: bytes, options: dict[str, Any]) -> Receipt:
        contract = self._contract
        options.setdefault("account", contract.account)
        try:
            return contract.client.send(to=contract.address, input=input, **options)
        except ContractReverted as error:
            raise contract.explained(error) from None

    def __repr__(self) -> str:
        return f"<function {' | '.join(_described(f) for f in self._overloads)}>"


class ContractEvent:
    """One event of a contract: past occurrences."""

    def __init__(self, contract: Contract, event: EventType) -> None:
        self._contract = contract
        self._event = event

    def __call__(
        self, *, from_block: BlockId = "earliest", to_block: BlockId = "latest", **indexed: Any
    ) -> list[Event]:
        """Events of a range of blocks, filtered by indexed arguments (a list means any of them)."""
        logs = self._contract.client.logs(
            address=self._contract.address,
            topics=self._event.topics(indexed),
            from_block=from_block,
            to_block=to_block,
        )
        return self._contract.decode(logs)

    def __repr__(self) -> str:
        return f"<event {self._event.signature}>"


class _Events:
    """The events of a contract by name."""

    def __init__(self, events: Mapping[str, ContractEvent]) -> None:
        self._events = events

    def __getattr__(self, name: str) -> ContractEvent:
        try:
            return self._events[name]
        except KeyError:
            raise AttributeError(f"the contract has no event {name!r}") from None

    def __getitem__(self, name: str) -> ContractEvent:
        return self._events[name]

    def __dir__(self) -> list[str]:
        return sorted(self._events)

    def __repr__(self) -> str:
        return f"<events {', '.join(self._events)}>"


class Contract:
    """A contract at an address; see the module's docstring."""

    def __init__(
        self,
        client: Client,
        address: str,
        abi: Sequence[Mapping[str, Any]],
        *,
        account: Account | str | None = None,
        receipt: Receipt | None = None,
    ) -> None:
        """``receipt`` is that of its creation, when this process created it."""
        self.client = client
        self.address = address
        self.account = account
        self.receipt = receipt
        self.abi = Abi(abi)
        self.functions = self._functions()
        self.events = _Events({event.name: ContractEvent(self, event) for event in self.abi.events})

    def _functions(self) -> dict[str, ContractFunction]:
        by_name: dict[str, list[Function]] = {}
        for function in self.abi.functions:
            by_name.setdefault(function.name, []).append(function)
            by_name[function.signature] = [function]
        return {name: ContractFunction(self, overloads) for name, overloads in by_name.items()}

    def decode(self, source: Receipt | Iterable[Log]) -> list[Event]:
        """The events of this contract in a receipt or a list of logs; others are passed over."""
        logs = source.logs if isinstance(source, Receipt) else source
        events: list[Event] = []
        for log in logs:
            event = self.abi.event_of(log)
            if event is not None and log.address.lower() == self.address.lower():
                events.append(Event(event.name, event.decode(log), log))
        return events

    def explained(self, error: ContractReverted) -> ContractReverted:
        """The error with its reason, custom errors of this ABI included."""
        from zerog.client.client import explained

        raw = data(error.data) if isinstance(error.data, str) else b""
        return explained(error, self.abi.revert_reason(raw) if raw else None)

    def __getattr__(self, name: str) -> ContractFunction:
        # Reached only when there is no attribute of that name.
        functions = self.__dict__.get("functions", {})
        if name in functions:
            function: ContractFunction = functions[name]
            return function
        raise AttributeError(f"the contract has no function {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(f.name for f in self.abi.functions)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contract) and other.address.lower() == self.address.lower()

    def __hash__(self) -> int:
        return hash(self.address.lower())

    def __repr__(self) -> str:
        lines = [f"<Contract {self.address}"]
        lines += [f"  {_described(function)}" for function in self.abi.functions]
        lines += [f"  event {event.signature}" for event in self.abi.events]
        return "\n".join(lines) + ">"


def _described(function: Function) -> str:
    inputs = ", ".join(f"{p.type} {p.name}".rstrip() for p in function.inputs)
    outputs = ", ".join(f"{p.type} {p.name}".rstrip() for p in function.outputs)
    arrow = f" -> {outputs}" if outputs else ""
    kind = "" if function.mutability == "nonpayable" else f" {function.mutability}"
    return f"{function.name}({inputs}){kind}{arrow}"
