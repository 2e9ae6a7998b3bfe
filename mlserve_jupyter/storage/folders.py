"""Folders and files that nobody else may read, and whose changes are on the disk when they say so.

Also how one process knows that another one, which owns a file, is gone: an owner holds an advisory
lock (``flock``), which the operating system releases however the process ends. Unlike
a process id, it cannot be mistaken for that of a later process, or of another container.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlserve_jupyter.errors import SettingsInvalid, StorageFull, StorageUnavailable


def make_private_folder(folder: Path) -> None:
    """Make sure that ``folder`` exists and that only its owner can enter it, whatever the umask.

    Raises
    ------
    StorageUnavailable
        It cannot be made or is somebody else's.
    StorageFull
        No space is left.
    """
    with disk_errors(folder):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o777 != 0o700:
            folder.chmod(0o700)


def read_or_make_private_file(path: Path, make: Callable[[], str]) -> str:
    """Return the one line of a secret's file; the first call of any process makes it.

    Parameters
    ----------
    path
        Its folder is made with mode 0700 if need be.
    make
        Returns what a new file is to hold, in ASCII.

    Raises
    ------
    SettingsInvalid
        If others may read the file.
    StorageUnavailable, StorageFull
        If it cannot be read or written.
    """
    make_private_folder(path.parent)
    with disk_errors(path):
        if not path.exists():
            _write_first(path, make())
        text = path.read_text(encoding="ascii", errors="replace").strip()
        mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise SettingsInvalid(
            f"{path} may be read by others (mode {mode:o}): remove it, so that a new one is made; "
            "or run `chmod 600` on it, if you are sure that nobody has read it."
        )
    return text


def _write_first(path: Path, line: str) -> None:
    """Write a file in one step; where another process was first, its file stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    sync_folder(path.parent)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals about ``path`` into this package's errors.

    Raises
    ------
    StorageFull
        On ENOSPC and EDQUOT.
    StorageUnavailable
        On all others.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"No space is left for {path}: free space on its disk, and try again.",
            ) from error
        raise StorageUnavailable(
            f"{path} cannot be used ({error.strerror}): let this user read and write it, or set "
            "data_dir to another folder.",
        ) from error


def make_parents(path: Path, root: Path) -> None:
    """Make the folders between ``root`` and ``path``, ``root`` too, private and durable."""
    for folder in reversed(path.parents):
        if folder.is_relative_to(root) and not folder.is_dir():
            make_private_folder(folder)
            sync_folder(folder.parent)


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with all that is in it; nothing happens where there is none."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    while path.exists():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:  # another process removes it at the same time
            continue


def sync_folder(folder: Path) -> None:
    """Put the names in ``folder`` on the disk: a rename is durable only after this."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_and_own(path: Path, flags: int) -> int | None:
    """Open ``path`` and take its lock for as long as the descriptor is open.

    Parameters
    ----------
    path
        A file.
    flags
        Of ``os.open``, to write; a new file gets mode 0600.

    Returns
    -------
    int or None
        A descriptor; None where another one holds the lock, or where ``path`` was removed or
        replaced before the lock was taken.
    """
    try:
        fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        opened, named = os.fstat(fd), os.stat(path)
    except (BlockingIOError, FileNotFoundError):
        os.close(fd)
        return None
    if (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino):
        os.close(fd)
        return None
    return fd
