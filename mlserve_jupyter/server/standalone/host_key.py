"""The one key of a standalone server, which lies in its data folder."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from mlserve_jupyter.accounts.keys import key_id, make_key
from mlserve_jupyter.errors import SettingsInvalid
from mlserve_jupyter.storage.folders import disk_errors, make_private_folder, sync_folder

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
    make_private_folder(data_dir)
    path = data_dir / KEY_FILE
    with disk_errors(path):
        if not path.exists():
            _write(path, make_key()[0])
        key = path.read_text(encoding="ascii", errors="replace").strip()
        mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise SettingsInvalid(
            f"{path} may be read by others (mode {mode:o}): remove it, so that a new key is made; "
            "or run `chmod 600` on it, if you are sure that nobody has read it."
        )
    if key_id(key) is None:
        raise SettingsInvalid(f"{path} holds no key: remove it, and a new one is made.")
    return key


def _write(path: Path, key: str) -> None:
    """Write it in one step; where another process was first, its key stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    sync_folder(path.parent)
