"""Vectors of the storage rules, and their readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load(name: str) -> Any:
    """The vector file ``name``, for example ``"merkle"``."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text())


def unhex(text: str) -> bytes:
    """Bytes of a 0x-prefixed hex text."""
    return bytes.fromhex(text.removeprefix("0x"))
