"""JSON-RPC methods written in Python: how they are declared, and how their parameters are checked.

A method is an ``async def`` whose first argument is the service and whose further arguments are
the parameters; annotations say how each is decoded::

    METHODS = MethodTable["DevnetControl"]()

    @METHODS.handler("anvil_setBalance", "hardhat_setBalance")
    async def set_balance(net: DevnetControl, address: Address, balance: Quantity) -> None:
        ...

A missing, superfluous or malformed parameter is answered with -32602 and a text that names the
parameter, what was expected and what came, before the method runs. Parameters may come as an array
or by name; names are accepted in camelCase and in snake_case.

While a method runs, `CALL` tells who called. Handlers of HTTP routes get an `HttpExchange`.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from zerog.errors import InvalidParams

Service = TypeVar("Service")
Decoder = Callable[[Any], Any]
Buffer = bytes | bytearray | memoryview
_MAX_SHOWN = 80
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


class Push(Protocol):
    """Sends notifications over the WebSocket connection of a call; any thread, never blocks."""

    @property
    def closed(self) -> bool:
        """True when the connection has ended."""
        ...

    def send(self, notification_json: bytes) -> bool:
        """Queues one notification, a whole JSON text. False when the connection has ended, or ends
        now because it lags too far behind."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """Who called a method: User-Agent header, address and port, and the way to send notifications,
    which WebSocket calls have. All ``None`` for a call from inside the process."""

    agent: str | None = None
    peer: str | None = None
    push: Push | None = None


_NOBODY = Call()
CALL: ContextVar[Call] = ContextVar("call", default=_NOBODY)
"""The call that is being answered."""


class HttpStream(Protocol):
    """An answer that is sent piece by piece, by one task."""

    async def write(self, data: Buffer) -> bool:
        """Sends a piece and waits while the client is slow. False when it has gone: stop then."""
        ...

    async def finish(self) -> None:
        """Ends the answer. Without it the client sees a broken connection."""
        ...


class HttpExchange(Protocol):
    """A request for a route, and the one answer to it.

    An exception before the answer is answered: `RpcError` with the status that fits its code, others
    with 500; the body is ``{"error": {"code", "message", "data"?}}``.
    """

    @property
    def method(self) -> str:
        """GET, HEAD, POST, …; an answer to HEAD is made as for GET, its body is not sent."""
        ...

    @property
    def path(self) -> str:
        """As it came: percent-encoded, not normalised, of a stranger's choice."""
        ...

    @property
    def query(self) -> str:
        """What follows the question mark, percent-encoded."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""
        ...

    @property
    def peer(self) -> str | None:
        """Address and port of the client."""
        ...

    @property
    def body(self) -> bytes:
        """At most ``rpc.max_body`` bytes."""
        ...

    @property
    def gone(self) -> bool:
        """True when the client does not wait any more."""
        ...

    async def respond(
        self,
        status: int,
        body: Buffer | list[Buffer] = b"",
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = "application/octet-stream",
    ) -> None:
        """The whole answer."""
        ...

    async def respond_json(self, status: int, value: Any) -> None:
        """The whole answer as JSON."""
        ...

    async def stream(
        self, status: int, headers: Mapping[str, str] | None = None, length: int | None = None
    ) -> HttpStream:
        """Begins an answer that is sent piece by piece; ``length`` in bytes, if it is known."""
        ...


RouteHandler = Callable[[HttpExchange], Awaitable[None]]
"""Answers requests whose path a prefix covers."""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _hex_digits(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.startswith(("0x", "0X")):
        raise ValueError(f"{what} as 0x-hexadecimal")
    digits = value[2:]
    if not _HEX_DIGITS.issuperset(digits):
        raise ValueError(f"{what} as 0x-hexadecimal")
    return digits.lower()


def decode_address(value: Any) -> str:
    """20 bytes of 0x-hexadecimal, in lower case."""
    digits = _hex_digits(value, "an address, 20 bytes")
    if len(digits) != 40:
        raise ValueError("an address, 20 bytes as 0x-hexadecimal")
    return "0x" + digits


def decode_hash(value: Any) -> str:
    """32 bytes of 0x-hexadecimal, in lower case."""
    digits = _hex_digits(value, "a hash, 32 bytes")
    if len(digits) != 64:
        raise ValueError("a hash, 32 bytes as 0x-hexadecimal")
    return "0x" + digits


def decode_word(value: Any) -> str:
    """Up to 32 bytes of 0x-hexadecimal or a number, as 32 bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**256:
        return f"0x{value:064x}"
    digits = _hex_digits(value, "at most 32 bytes")
    if len(digits) > 64:
        raise ValueError("at most 32 bytes as 0x-hexadecimal")
    return "0x" + digits.rjust(64, "0")


def decode_data(value: Any) -> str:
    """Whole bytes of 0x-hexadecimal, in lower case."""
    digits = _hex_digits(value, "bytes")
    if len(digits) % 2:
        raise ValueError("whole bytes as 0x-hexadecimal (an even number of digits)")
    return "0x" + digits


def _integer(value: Any, bits: int) -> int:
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str) and len(value) <= 80:
        if value.startswith(("0x", "0X")):
            digits = value[2:]
            # int() alone would take signs, spaces and underscores.
            number = int(digits or "0", 16) if all(c in _HEX_DIGITS for c in digits) else None
        elif value.isascii() and value.isdigit():
            number = int(value)
    if number is None or not 0 <= number < 1 << bits:
        raise ValueError(f"a number from 0 to 2^{bits}-1, decimal or 0x-hexadecimal")
    return number


def decode_quantity(value: Any) -> int:
    """A number below 2^256: JSON number, decimal or 0x-hexadecimal string."""
    return _integer(value, 256)


def decode_uint64(value: Any) -> int:
    """A number below 2^64: JSON number, decimal or 0x-hexadecimal string."""
    return _integer(value, 64)


def decode_seconds(value: Any) -> int:
    """Whole seconds below 2^40 (the year 36,812 when they are a timestamp)."""
    return _integer(value, 40)


def decode_signed_seconds(value: Any) -> int:
    """Seconds between -2^40 and 2^40."""
    if isinstance(value, int) and not isinstance(value, bool) and -(1 << 40) < value < 0:
        return value
    return _integer(value, 40)


def decode_bool(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def decode_object(value: Any) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError("a JSON object")
    return value


Address = Annotated[str, decode_address]
Hash = Annotated[str, decode_hash]
Word = Annotated[str, decode_word]
Data = Annotated[str, decode_data]
Quantity = Annotated[int, decode_quantity]
Uint64 = Annotated[int, decode_uint64]
Seconds = Annotated[int, decode_seconds]
SignedSeconds = Annotated[int, decode_signed_seconds]
Flag = Annotated[bool, decode_bool]
Object = Annotated[dict[str, Any], decode_object]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method: its name as clients read it in errors, and how it is decoded."""

    name: str
    decode: Decoder
    required: bool


@dataclass(frozen=True, slots=True)
class Method(Generic[Service]):
    """A method of a service with its parameters."""

    name: str
    call: Callable[..., Awaitable[Any]]
    parameters: tuple[Parameter, ...]

    def bind(self, params: Any) -> list[Any]:
        """The decoded arguments; raises `InvalidParams`."""
        if params is None:
            params = []
        if isinstance(params, dict):
            params = self._positional(params)
        if not isinstance(params, list):
            raise InvalidParams("params must be an array or an object")
        if len(params) > len(self.parameters):
            raise InvalidParams(f"too many arguments, want at most {len(self.parameters)}")
        return [self._argument(index, parameter, params) for index, parameter in enumerate(self.parameters)]

    def _positional(self, named: dict[str, Any]) -> list[Any]:
        places = {parameter.name: index for index, parameter in enumerate(self.parameters)}
        places |= {_snake(name): index for name, index in places.items()}
        params: list[Any] = [None] * len(self.parameters)
        for name, value in named.items():
            if name not in places:
                known = ", ".join(parameter.name for parameter in self.parameters) or "none"
                raise InvalidParams(f"unknown argument {_shown(name)}, want {known}")
            params[places[name]] = value
        return params

    @staticmethod
    def _argument(index: int, parameter: Parameter, params: list[Any]) -> Any:
        value = params[index] if index < len(params) else None
        if value is None:
            if parameter.required:
                raise InvalidParams(f"missing value for required argument {index} ({parameter.name})")
            return None
        try:
            return parameter.decode(value)
        except ValueError as error:
            raise InvalidParams(
                f"invalid argument {index} ({parameter.name}): expected {error}, got {_shown(value)}"
            ) from None

    async def __call__(self, service: Service, params: Any) -> Any:
        """Checks the parameters and runs the method."""
        return await self.call(service, *self.bind(params))


Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])


class MethodTable(Generic[Service]):
    """Methods by name."""

    def __init__(self) -> None:
        self._methods: dict[str, Method[Service]] = {}

    def handler(self, *names: str) -> Callable[[Function], Function]:
        """Registers an ``async def`` under all ``names``."""

        def register(function: Function) -> Function:
            parameters = tuple(_parameters(function))
            for name in names:
                if name in self._methods:
                    raise ValueError(f"two handlers claim {name}")
                self._methods[name] = Method(name, function, parameters)
            return function

        return register

    def get(self, name: str) -> Method[Service] | None:
        """The method of that name."""
        return self._methods.get(name)

    def names(self) -> list[str]:
        """All names, aliases included."""
        return list(self._methods)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _parameters(function: Callable[..., Any]) -> Iterable[Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for index, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if index == 0:
            continue  # the service
        head, *rest = name.split("_")
        camel = head + "".join(part.title() for part in rest)
        yield Parameter(camel, _decoder(hints[name]), parameter.default is inspect.Parameter.empty)


def _decoder(hint: Any) -> Decoder:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arm for arm in get_args(hint) if arm is not type(None))
    if get_origin(hint) is Annotated:
        decode: Decoder = get_args(hint)[1]
        return decode
    return lambda value: value
