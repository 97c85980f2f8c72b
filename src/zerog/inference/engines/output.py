"""The output of a generation while it grows: where it stops, and what a reader may see already.

A reader gets pieces that never have to be taken back: no part of a stop string, no half of a UTF-8
character, unless the generation itself ends inside one. The pieces together are the output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zerog.errors import InferenceError

MAX_STOP_STRINGS = 16
MAX_STOP_SIZE = 256
"""Bytes of one stop string."""


def check_stop_strings(stop_strings: Sequence[str]) -> list[bytes]:
    """The stop strings as UTF-8.

    Raises
    ------
    InferenceError : too many, or one that is empty, too long or not encodable.
    """
    if len(stop_strings) > MAX_STOP_STRINGS:
        raise InferenceError(
            f"{len(stop_strings)} stop strings are more than the limit of {MAX_STOP_STRINGS}"
        )
    encoded = []
    for index, text in enumerate(stop_strings):
        try:
            stop = text.encode()
        except UnicodeEncodeError:
            raise InferenceError(f"stop string {index} is not valid Unicode") from None
        if not 1 <= len(stop) <= MAX_STOP_SIZE:
            raise InferenceError(
                f"stop string {index} has {len(stop)} bytes, allowed are 1 to {MAX_STOP_SIZE}"
            )
        encoded.append(stop)
    return encoded


class GrowingOutput:
    """Bytes of an output, token by token.

    Parameters
    ----------
    stops : stop strings as `check_stop_strings` returns them; the earliest in the text ends it.
    on_text : called with each piece that has become certain.
    """

    def __init__(self, stops: Sequence[bytes], on_text: Callable[[bytes], None] | None = None) -> None:
        self._stops = stops
        self._on_text = on_text
        self._text = bytearray()
        self._told = 0

    def append(self, piece: bytes) -> bool:
        """Adds a token's bytes; whether a stop string is complete, which also cuts the output."""
        before = len(self._text)
        self._text += piece
        cuts = [
            at for stop in self._stops if (at := self._text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if cuts:
            del self._text[min(cuts) :]
            return True
        if self._on_text is not None:
            self._tell(self._certain())
        return False

    def finish(self) -> bytes:
        """The whole output; the reader gets what was held back."""
        self._tell(len(self._text))
        return bytes(self._text)

    def _tell(self, end: int) -> None:
        if self._on_text is not None and end > self._told:
            piece = bytes(self._text[self._told : end])
            self._told = end
            self._on_text(piece)

    def _certain(self) -> int:
        """Length of the prefix that neither a stop string nor a character's rest can change."""
        end = len(self._text)
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._text)), 0, -1):
                if self._text.endswith(stop[:size]):
                    end = min(end, len(self._text) - size)
                    break
        return end - incomplete_tail(self._text[max(0, end - 3) : end])


def incomplete_tail(data: bytes | bytearray) -> int:
    """Bytes at the end that begin a UTF-8 character without completing it: 0 to 3."""
    for size in range(1, min(3, len(data)) + 1):
        lead = data[-size]
        if lead & 0xC0 == 0x80:
            continue
        needed = 4 if 0xF0 <= lead <= 0xF4 else 3 if 0xE0 <= lead < 0xF0 else 2 if 0xC2 <= lead < 0xE0 else 1
        return size if needed > size else 0
    return 0
