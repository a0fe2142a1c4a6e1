"""Reading many photo files in turn without waiting for each: a few are under way ahead of it.

Memory holds a bounded part of what is ahead: nothing of local files (the kernel is told of them),
the first megabytes of objects in a store.
"""

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.storage import IN_FLIGHT, error_code

Stored = bytes | UnreadableError | None
"""The bytes of a photo; why there are none although it is there; None where it is missing."""

_FILES_AHEAD = 8
_FIRST_BYTES = 2 << 20
"""Part of an object that is fetched ahead; the rest of a larger one waits for its turn."""
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
_TOLD = (errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ENXIO)
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


def local_files(paths: Iterable[str], max_bytes: int | None = None) -> Iterator[Stored]:
    """The bytes of each file in turn; files of more than `max_bytes` bytes are not read.

    The next few files are open meanwhile, and the kernel fetches what it hasn't cached.
    """
    ahead: deque[int | UnreadableError | None] = deque()
    coming = iter(paths)
    try:
        ahead.extend(map(_opened, islice(coming, _FILES_AHEAD)))
        while ahead:
            current = ahead.popleft()
            ahead.extend(map(_opened, islice(coming, 1)))
            yield _read(current, max_bytes) if isinstance(current, int) else current
    finally:
        for left in ahead:
            if isinstance(left, int):
                os.close(left)


def remote_files(
    filesystem: Any, paths: Iterable[str], max_bytes: int | None = None
) -> Iterator[Stored]:
    """The bytes of each object of an fsspec file system in turn, `IN_FLIGHT` fetched at once.

    Raises what the file system raises when the store as a whole can't be used.
    """
    first = _FIRST_BYTES if max_bytes is None else min(_FIRST_BYTES, max_bytes + 1)
    pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="read-ahead")
    ahead: deque[tuple[str, Future[Stored]]] = deque()
    coming = iter(paths)

    def ask(count: int) -> None:
        for path in islice(coming, count):
            ahead.append((path, pool.submit(_part, filesystem, path, 0, first)))

    try:
        ask(IN_FLIGHT)
        while ahead:
            path, answer = ahead.popleft()
            data = answer.result()
            ask(1)
            if isinstance(data, bytes) and len(data) == first:
                data = _whole(filesystem, path, data, max_bytes)
            yield data
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _opened(path: str) -> int | UnreadableError | None:
    try:
        file = os.open(path, _OPEN)
    except ValueError:  # a NUL character: no file has such a name
        return None
    except OSError as error:
        return _refusal(error)
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # a pipe, a file system without advice
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
    return file


def _read(file: int, max_bytes: int | None) -> Stored:
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode):
            kind = "a folder" if stat.S_ISDIR(state.st_mode) else "no regular file"
            return UnreadableError(f"{kind}, not a photo")
        if max_bytes is not None and state.st_size > max_bytes:
            return too_large(max_bytes)
        data = os.read(file, state.st_size + 1)
        if len(data) == state.st_size:
            return data
        # It is being written, or larger than one call takes.
        with os.fdopen(file, "rb", buffering=0, closefd=False) as stream:
            return data + stream.read()
    except OSError as error:
        return _refusal(error)
    finally:
        os.close(file)


def _refusal(error: OSError) -> UnreadableError | None:
    if error.errno in _MISSING:
        return None
    if error.errno in _TOLD:
        return UnreadableError(f"can't be read: {error.strerror}")
    raise error


def _part(filesystem: Any, path: str, start: int, stop: int | None) -> Stored:
    try:
        return bytes(filesystem.cat_file(path, start=start, end=stop))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        return UnreadableError("a folder, not a photo")
    except OSError as error:
        code = error_code(error)
        if code in ("InvalidRange", "416"):  # nothing stands from `start` on
            return b""
        if code == "AccessDenied":
            return UnreadableError("can't be read: Permission denied")
        raise


def _whole(filesystem: Any, path: str, begun: bytes, max_bytes: int | None) -> Stored:
    """An object of which the first part is there, with the rest."""
    if max_bytes is not None and len(begun) > max_bytes:
        return too_large(max_bytes)
    stop = int(filesystem.info(path)["size"])
    if max_bytes is not None and stop > max_bytes:
        return too_large(max_bytes)
    rest = _part(filesystem, path, len(begun), stop) if stop > len(begun) else b""
    return begun + rest if isinstance(rest, bytes) else rest


def too_large(max_bytes: int) -> UnreadableError:
    """What is yielded for a photo whose file is larger than it may be."""
    return UnreadableError(f"a file of more than {max_bytes:,} bytes")
