"""What several tests of audits need."""

from __future__ import annotations

import pytest

from zerog.inference.publication import StorageTranscripts


class Shelf:
    """Keeps published bytes under their true roots."""

    def __init__(self):
        self._kept = {}

    def root_of(self, data):
        return StorageTranscripts(None).root_of(data)

    def publish(self, data):
        root = self.root_of(data)
        self._kept[root] = data
        return root

    def fetch(self, root, limit):
        return self._kept.get(root)


@pytest.fixture
def shelf() -> Shelf:
    """An empty store of transcripts."""
    return Shelf()
