"""What SQLite's write-ahead log should hold after a crash.

SQLite ends its reading of the log at the first frame whose checksum does not fit, and says nothing: after a power
cut, or a flipped bit, the last transactions are not there. The store is then as it was before them. That is
sound (the progress mark goes back with the rows, so that the chain is followed again; segments count as missing
and are fetched again), but it must not happen silently.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

_HEADER = struct.Struct(">IIII8s8s")
"""Magic, format, page size, checkpoint number, salts, checksum."""
_FRAME = struct.Struct(">II8s8s")
"""Page number, size of the database after a commit (else 0), salts, checksum."""
_MAGIC = 0x377F0682


def commit_marks(path: Path) -> int:
    """Number of the last frame of the log's current generation that ends a transaction, 1 for the first; 0: none.

    Checksums are not looked at: SQLite does that, and this is what its result is compared with. A kill between
    the two writes of a commit's last frame can leave one more than SQLite takes, if the file was longer before.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0
    with file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return 0
        magic, _, page, _, salts, _ = _HEADER.unpack(head)
        if magic & ~1 != _MAGIC or page < 512 or page & (page - 1):
            page = 4096  # A damaged header: SQLite's page size, unless told otherwise.
        last = 0
        frame = _FRAME.size + page
        # A kill can leave the beginning of a frame at the end: that transaction was never acknowledged.
        for number in range(1, (os.fstat(file.fileno()).st_size - _HEADER.size) // frame + 1):
            file.seek(_HEADER.size + (number - 1) * frame)
            raw = file.read(_FRAME.size)
            if len(raw) < _FRAME.size:
                break
            _, size, mark, _ = _FRAME.unpack(raw)
            if number == 1 and mark != salts:
                # The header is written together with the first frame: one of the two is damaged.
                last, salts = 1, mark
            if size and mark == salts:
                last = number
        return last
