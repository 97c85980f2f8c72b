"""What depends on which client asks: everything, in one place.

The official SDKs disagree about some answers. Nothing else in zerog looks at the User-Agent; a false one
changes how an answer is written, never what is allowed.

=========================================  =====================================================
case                                       why
=========================================  =====================================================
an upload answers 0 to ``0g-py-sdk`` and   0G's node answers null, which the Python SDK 0.4.0 and the
``axios``, null to everybody else          JavaScript SDK 0.3.3 take for a failure and try again; the
                                           Rust SDK decodes ``()`` and fails on 0
"already uploaded and finalized" stands    the Python SDK looks for it in the message, the JavaScript
in the message, too                        SDK in the data, Go and Rust in "message; data: …"
``kv_IsAdmin`` is ``kv_isAdmin``           JavaScript and Python SDKs call it so
keys of ``0g-py-sdk`` are hexadecimal      it sends and reads KV keys as 0x-text, everybody else as base64
``kv_getValue`` of 262,144 bytes answers   the JavaScript SDK adds the length of the base64 text to its
the whole rest to ``axios``                position, so that a second request would miss bytes
=========================================  =====================================================
"""

from __future__ import annotations

from typing import Any

from zerog.errors import RpcError

INVALID_PARAMS = -32602
FINALIZED = "already uploaded and finalized"
ALIASES = {"kv_IsAdmin": "kv_isAdmin"}
"""Names that clients use for another method."""
UPLOADS = frozenset(
    (
        "zgs_uploadSegment",
        "zgs_uploadSegmentByTxSeq",
        "zgs_uploadSegments",
        "zgs_uploadSegmentsByTxSeq",
    )
)
_NULL_IS_FAILURE = ("0g-py-sdk", "axios")
_WHOLE_VALUE_LENGTH = 262_144


def result(agent: str | None, method: str, value: Any) -> Any:
    """The result of ``method`` as that client understands it; ``value`` is ``None`` for unit."""
    if method in UPLOADS and value is None and (agent or "").startswith(_NULL_IS_FAILURE):
        return 0
    return value


def invalid_params(field: str, detail: str) -> RpcError:
    """A wrong parameter in the form of 0G's node."""
    message = f"Invalid params: {field}"
    if detail == FINALIZED:
        message = f"{message}; data: {detail}"
    return RpcError(INVALID_PARAMS, message, detail)


def writes_keys_as_hex(agent: str | None) -> bool:
    """Whether KV keys travel as 0x-hexadecimal with that client; else they are base64."""
    return (agent or "").startswith("0g-py-sdk")


def wants_whole_value(agent: str | None, length: int) -> bool:
    """Whether ``kv_getValue`` of ``length`` bytes must answer everything from its start on."""
    return (agent or "").startswith("axios") and length == _WHOLE_VALUE_LENGTH
