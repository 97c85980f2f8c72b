"""The signing key of this machine."""

from __future__ import annotations

import pytest

from zerog.chain.keys import address_of
from zerog.errors import InferenceError
from zerog.inference.signer import load_or_create


def test_a_key_is_made_once_and_kept_private(tmp_path):
    path = tmp_path / "new" / "signer.key"
    key = load_or_create(path)
    assert load_or_create(path) == key
    assert address_of(key).startswith("0x")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "signer.key"
    load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(InferenceError, match=r"others can read the signing key.*chmod 600"):
        load_or_create(path)


@pytest.mark.parametrize("text", ["", "secret-not-hex", "00" * 31, "ff" * 33])
def test_a_file_without_a_key_is_refused_and_never_quoted(tmp_path, text):
    path = tmp_path / "signer.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InferenceError, match="holds no signing key") as caught:
        load_or_create(path)
    assert not text or text not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InferenceError, match="signing key"):
        load_or_create(tmp_path / "file" / "signer.key")
