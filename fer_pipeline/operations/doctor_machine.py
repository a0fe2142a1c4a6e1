"""What the doctor finds of this machine: installed packages, and what the process may use."""

import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from fer_pipeline.core.room import in_words
from fer_pipeline.operations.findings import Finding, ok, problem, warning
from fer_pipeline.settings import Settings

_PACKAGE = "fer_pipeline"
_OLDEST_PYTHON = (3, 11)
_BACKENDS: Mapping[str, str] = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
_TENSORFLOW = ("tensorflow", "tensorflow-cpu")
"""Packages of the same files; the first is the one for GPUs."""
_LEAST_MEMORY = 3 * 2**30
"""Bytes under which a training beside its run and the pages is likely to be killed."""
_CGROUP = Path("/sys/fs/cgroup")
_MINE = Path("/proc/self/cgroup")
_UNLIMITED = 2**60


def versions() -> Iterator[Finding]:
    """Python, the installed packages against what this one asks for, the training framework.

    Nothing of them is imported: TensorFlow alone takes ten seconds.
    """
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST_PYTHON:
        yield problem("versions", f"this is Python {running}", "use 3.11 or newer")
    missing, wrong, count = [], [], 0
    for text in requires(_PACKAGE) or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        # Either of the two is what trains, see _training_framework.
        names = _TENSORFLOW if wanted.name in _TENSORFLOW else (wanted.name,)
        installed = [name for name in names if _is_installed(name)]
        if not installed:
            missing.append(wanted.name)
            continue
        there = version(installed[0])
        if not wanted.specifier.contains(there, prereleases=True):
            wrong.append(f"{wanted.name} {there} ({wanted.specifier})")
    remedy = "install again: pip install -c constraints.txt -e ."
    if missing:
        yield problem("versions", f"not installed: {', '.join(missing)}", remedy)
    if wrong:
        yield problem("versions", f"not in the range asked for: {', '.join(wrong)}", remedy)
    if not missing and not wrong:
        yield ok("versions", f"Python {running}, {count} packages as {_PACKAGE} asks for them")
    yield from _training_framework()


def _training_framework() -> Iterator[Finding]:
    chosen = os.environ.get("KERAS_BACKEND", "tensorflow")
    if chosen not in _BACKENDS:
        yield problem(
            "versions",
            f"KERAS_BACKEND is {chosen!r}, which trains nothing",
            f"use one of {', '.join(_BACKENDS)}",
        )
        return
    for name in ("keras", _BACKENDS[chosen]):
        if importlib.util.find_spec(name) is None:
            yield problem(
                "versions", f"{name}, which trains models, isn't there", f"install {name}"
            )
            return
    both = [name for name in _TENSORFLOW if _is_installed(name)]
    if chosen == "tensorflow" and len(both) == 2:
        yield problem(
            "versions",
            "tensorflow and tensorflow-cpu are both installed and overwrite each other's files",
            "uninstall both, then install one",
        )
        return
    known = both[0] if chosen == "tensorflow" and both else chosen
    there = f" {version(known)}" if _is_installed(known) else ""
    yield ok("versions", f"Keras {version('keras')} on {known}{there}")


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def limits(settings: Settings | None) -> Iterator[Finding]:
    """CPUs and memory that this process may use: those of the machine, or of its container."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = cpu_limit()
    allowed = float(cores or 1) if share is None else min(float(cores or 1), share)
    memory = min(psutil.virtual_memory().total, memory_limit() or _UNLIMITED)
    said = f"{allowed:g} CPUs and {in_words(memory)} of memory"
    if share is not None or memory_limit() is not None:
        said += " by the limits of its container"
    yield ok("limits", said)
    if memory < _LEAST_MEMORY:
        yield warning(
            "limits",
            f"{in_words(memory)} of memory are little for a training beside its run",
            f"give it {in_words(_LEAST_MEMORY)} or more, or run one step at once: FER_WORKERS=1",
        )
    if settings is not None and settings.workers > max(1.0, allowed):
        yield warning(
            "limits",
            f"{settings.workers} steps are to run at once on {allowed:g} CPUs",
            f"set FER_WORKERS={max(1, int(allowed))}",
        )


def memory_limit() -> int | None:
    """Bytes that the control group of this process may use; None without a limit."""
    found = [
        *_numbers("memory", "memory.max"),
        *_numbers("memory", "memory.limit_in_bytes"),
    ]
    least = min(found, default=_UNLIMITED)
    return None if least >= _UNLIMITED else int(least)


def cpu_limit() -> float | None:
    """CPUs that the control group of this process may use; None without a limit."""
    shares = []
    for folder in _groups("cpu"):
        try:
            words = (folder / "cpu.max").read_text().split()
        except OSError:
            try:
                words = [
                    (folder / name).read_text().strip()
                    for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                ]
            except OSError:
                continue
        if len(words) == 2 and re.fullmatch(r"\d+", words[0]) and float(words[1]) > 0:
            shares.append(float(words[0]) / float(words[1]))
    return min(shares, default=None)


def _numbers(controller: str, name: str) -> list[float]:
    found = []
    for folder in _groups(controller):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        if re.fullmatch(r"\d+", text):
            found.append(float(text))
    return found


def _groups(controller: str) -> list[Path]:
    """The folders of this process' control groups, of both versions, up to the root."""
    try:
        lines = _MINE.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, names, path = line.split(":", 2)
        root = _CGROUP if not names else _CGROUP / names
        if names and controller not in names.split(","):
            continue
        # Within a container the path may be that outside of it: the root then is the own group.
        folder = root / path.lstrip("/")
        found += [one for one in (folder, *folder.parents) if one.is_relative_to(root)]
    return found
