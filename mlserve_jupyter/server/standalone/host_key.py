"""The one key of a standalone server, which lies in its data folder."""

from __future__ import annotations

from pathlib import Path

from mlserve_jupyter.accounts.keys import key_id, make_key
from mlserve_jupyter.errors import SettingsInvalid
from mlserve_jupyter.storage.folders import read_or_make_private_file

KEY_FILE = "mlserve-standalone.key"


def read_or_make_key(data_dir: Path) -> str:
    """Return the key; the first call makes it.

    Raises
    ------
    SettingsInvalid
        If the file holds no key, or others may read it.
    StorageUnavailable, StorageFull
        If it cannot be read or written.
    """
    path = data_dir / KEY_FILE
    key = read_or_make_private_file(path, lambda: make_key()[0])
    if key_id(key) is None:
        raise SettingsInvalid(f"{path} holds no key: remove it, and a new one is made.")
    return key
