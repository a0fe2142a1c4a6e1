"""Addresses of files: paths of this machine, or of any object store that fsspec knows.

A local address is a plain `pathlib.Path` and is used as such; only the rest goes through fsspec,
in functions of this module where the two differ. How files are published stands in `files.py`,
how photos are read in `read_ahead.py`.
"""

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from fer_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from upath import UPath
else:
    try:
        from upath import UPath
    except ModuleNotFoundError:

        class UPath:
            """No address is one: where training is all that is done, every file is local."""


Location: TypeAlias = Path | UPath
"""A `Path` on this machine, a `UPath` anywhere else; never a `UPath` on this machine."""

T = TypeVar("T")

IN_FLIGHT = 16
"""Requests to an object store that one process has open at once."""

_LOCAL = ("file", "local")
_EXTRAS: Mapping[str, str] = {"s3": "s3", "s3a": "s3"}
"""Protocols that an extra of this package brings."""
_OPTIONS: Mapping[str, Any] = {"use_listings_cache": False}
"""What another process wrote must be seen, so that listings aren't kept."""
_READ_BYTES = 1 << 20
_STREAM_BYTES = 8 << 20
_LISTED_FROM = 5
"""Files wanted of one folder from which on the folder is listed instead of asking for each."""
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs")
_REFUSED = ("AccessDenied", "AllAccessDisabled", "403", "Forbidden", "InvalidAccessKeyId")
_EXPIRED = ("ExpiredToken", "SignatureDoesNotMatch", "InvalidToken", "RequestTimeTooSkewed")


def as_location(address: "str | os.PathLike[str] | UPath") -> Location:
    """The location that an address names: absolute and without `~` on this machine.

    Raises InputError when it is empty or isn't UTF-8, is a symbolic link to itself, the protocol is
    unknown, its package is not installed, or the address names no bucket.
    """
    if isinstance(address, UPath):
        return address
    text = os.fspath(address)
    if not text:
        raise InputError(
            "an address is empty: give a folder, or an address such as s3://bucket/path"
        )
    protocol, mark, rest = text.partition("://")
    if not mark:
        return _in_utf8(resolved(expanded(text)))
    if protocol in _LOCAL:
        return _in_utf8(resolved(Path(unquote(urlsplit(text).path))))
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise InputError(
            f"{text} has the unknown protocol {protocol!r}: give a folder, or an address such as "
            "s3://bucket/path"
        ) from error
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"install fer_pipeline[{extra}]" if extra else str(error).rstrip(".")
        raise InputError(f"{text} can't be opened without another package: {remedy}") from error
    if not rest.strip("/"):
        raise InputError(
            f"{text} names no bucket: give an address such as {protocol}://bucket/path"
        )
    return UPath(text.rstrip("/"), protocol=protocol, **_OPTIONS)


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path of this machine with the folder that its `~` stands for.

    Raises InputError for the home folder of a user that isn't known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{path} stands in the home folder of a user that isn't known here: give the whole path"
        ) from error


def resolved(path: Path) -> Path:
    """A path of this machine, absolute and without symbolic links.

    Raises InputError where a link leads to itself.
    """
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{path} can't be followed, a symbolic link in it leads to itself: give another path"
        ) from error


def _in_utf8(path: Path) -> Path:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise InputError(
            f"{shown} has a name that isn't UTF-8, which no file of ours can hold: rename it"
        ) from error
    return path


def is_remote(path: Location) -> bool:
    """Whether a location is anywhere but in this machine's file system."""
    return not isinstance(path, Path)


def parquet_source(path: Location) -> Any:
    """What `pyarrow.parquet` reads: the path as text, or an open file of an object store."""
    if isinstance(path, Path):
        return str(path)
    return path.fs.open(path.path, "rb", block_size=_READ_BYTES)


def open_binary(path: Location) -> IO[bytes]:
    """Open a file to read its bytes front to back."""
    if isinstance(path, Path):
        return path.open("rb")
    remote = path.fs.open(path.path, "rb", block_size=_STREAM_BYTES, cache_type="readahead")
    return io.BufferedReader(remote, _READ_BYTES)


def is_file(path: Location) -> bool:
    """Whether a file is there; unlike `UPath.is_file`, an unreachable store is no answer."""
    return path.is_file() if isinstance(path, Path) else _type(path) == "file"


def is_folder(path: Location) -> bool:
    """Whether a folder is there; unlike `UPath.is_dir`, an unreachable store is no answer."""
    return path.is_dir() if isinstance(path, Path) else _type(path) == "directory"


def files_in(folder: Location, pattern: str) -> list[Location]:
    """What in a folder matches a pattern such as `*.parquet`, in order of the names."""
    found: Iterator[Location] = folder.glob(pattern)
    return sorted(found, key=str)


def relative_name(path: Location, folder: Location) -> str:
    """The name of a file under a folder, with forward slashes."""
    if isinstance(path, Path) and isinstance(folder, Path):
        return path.relative_to(folder).as_posix()
    return str(path).removeprefix(str(folder)).lstrip("/")


def file_size(path: Location) -> int:
    """Bytes of a file; raises OSError when there is none."""
    return int(path.stat().st_size)


def check_writable(folder: Location) -> None:
    """Make a local folder, or write and delete an object; raises OSError where that can't be."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        return
    probe = folder / ".writable"
    probe.fs.pipe_file(probe.path, b"")
    probe.fs.rm_file(probe.path)


@contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """The file itself if it is local, else a copy of the same name that goes with the block."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with open_binary(path) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, _READ_BYTES)
        yield copy


def file_stamps(paths: Sequence[Location]) -> list[str]:
    """For each file a word that changes when the file does, empty where there is none.

    Size and time on this machine; size and ETag (or time) in an object store.
    """
    found = [_local_stamp(path) if isinstance(path, Path) else "" for path in paths]
    remote = [(at, path) for at, path in enumerate(paths) if isinstance(path, UPath)]
    by_store: dict[int, list[tuple[int, UPath]]] = {}
    for at, path in remote:
        by_store.setdefault(id(path.fs), []).append((at, path))
    for of_store in by_store.values():
        names = [path.path for _, path in of_store]
        stamps = file_facts(of_store[0][1].fs, names, _remote_stamp, "")
        for (at, _), stamp in zip(of_store, stamps, strict=True):
            found[at] = stamp
    return found


def file_facts(
    filesystem: Any, paths: Sequence[str], fact: Callable[[Mapping[str, Any]], T], missing: T
) -> list[T]:
    """For each path what `fact` makes of what an fsspec file system knows of the file.

    `missing` where there is none. Folders of which many files are wanted are listed, the other
    files are asked for one by one, several at a time.
    """
    wanted: dict[str, list[int]] = {}
    for at, path in enumerate(paths):
        wanted.setdefault(path.rpartition("/")[0], []).append(at)
    found = [missing] * len(paths)

    def look(task: tuple[str, list[int]]) -> None:
        folder, places = task
        names = {paths[at] for at in places}
        try:
            if len(names) >= _LISTED_FROM:
                known = filesystem.ls(folder, detail=True)
            else:
                known = [filesystem.info(name) for name in names]
        except (FileNotFoundError, NotADirectoryError):
            return
        facts = {
            info["name"]: fact(info)
            for info in known
            if info["type"] == "file" and info["name"] in names
        }
        for at in places:
            found[at] = facts.get(paths[at], missing)

    tasks = []
    for folder, places in wanted.items():
        if len({paths[at] for at in places}) >= _LISTED_FROM:
            tasks.append((folder, places))
        else:
            tasks += [(folder, [at]) for at in places]
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        for _ in pool.map(look, tasks):
            pass
    return found


def error_code(error: BaseException) -> str | None:
    """The word by which an object store names what went wrong, such as AccessDenied."""
    for cause in causes(error):
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict) and isinstance(answer.get("Error"), dict):
            return str(answer["Error"].get("Code"))
    return None


def storage_problem(error: BaseException) -> str | None:
    """One sentence for what an object store's client raised; None for any other error."""
    known = [
        cause for cause in causes(error) if type(cause).__module__.partition(".")[0] in _CLIENTS
    ]
    if not known:
        return None
    code, said = error_code(error), " ".join(str(known[0]).split())
    if code == "NoSuchBucket":
        return f"the object store has no such bucket ({said}): check the addresses"
    if code in _EXPIRED:
        return f"the object store refuses the credentials ({said}): renew them and run again"
    if code in _REFUSED:
        return (
            f"the object store refuses access ({said}): check the credentials (AWS_PROFILE or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and what they may read and write"
        )
    if "Credentials" in type(known[0]).__name__:
        return (
            f"the object store needs credentials ({said}): set AWS_PROFILE, or AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY"
        )
    return (
        f"the object store can't be used ({said}): check the connection and AWS_ENDPOINT_URL, "
        "then run again, which goes on from here"
    )


def causes(error: BaseException) -> list[BaseException]:
    """The error and what led to it, outermost first."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        # SQLAlchemy keeps the database's own error in `orig`.
        cause = cause.__cause__ or getattr(cause, "orig", None) or cause.__context__
    return chain


def _type(path: UPath) -> str | None:
    try:
        return str(path.fs.info(path.path)["type"])
    except (FileNotFoundError, NotADirectoryError):
        return None


def _local_stamp(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{state.st_size}:{state.st_mtime_ns}"


def _remote_stamp(info: Mapping[str, Any]) -> str:
    names = ("ETag", "etag", "LastModified", "mtime", "created")
    mark = next((info[name] for name in names if info.get(name)), "")
    return f"{info['size']}:{str(mark).strip(chr(34))}"
