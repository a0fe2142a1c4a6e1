"""Kills at random moments, round after round: `python -m fer_pipeline_tests.soak --help`.

Each round kills a worker, the run and the Dagster daemon of a home of its own, goes on, and
compares the crops byte for byte with those of an undisturbed run.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fer_pipeline.core.synthetic import write_release
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended, fer_pipeline
from fer_pipeline_tests.interruptions import Command, Pages, all_end, crops, traces

SMALL = {"FER_SHARD_ROWS": "15", "FER_WORKERS": "2"}
_RUN = ("run", "--select", "face_crops", "--json")
_EARLY = 0.6
"""Share of an undisturbed run within which it is killed: a busy machine may be faster later."""


def main() -> int:
    """Run the rounds; exit code 1 when one ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=int, default=240, help="photos of the drawn release")
    parser.add_argument("--only", choices=sorted(KINDS), help="one kind of kill")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fer-soak-") as folder:
        return _soak(Path(folder), given.rounds, given.seed, given.photos, given.only)


def _soak(folder: Path, rounds: int, seed: int, photos: int, only: str | None) -> int:
    root = write_release(folder / "release", photos=photos, seed=5).root
    base = folder / "base"
    _well(fer_pipeline(*graph.run_words(root, base, ["three_class"]), "--select", "class_manifest"))
    started = time.monotonic()
    undisturbed = Path(shutil.copytree(base, folder / "undisturbed"))
    _well(fer_pipeline(*_RUN, "--home", undisturbed, **SMALL))
    seconds = time.monotonic() - started
    expected = _crops(undisturbed)
    _say(f"undisturbed: {len(expected) - 1} shards, {seconds:.0f} s")
    failed = 0
    for number in range(1, rounds + 1):
        for kind, kill in KINDS.items():
            if only not in (None, kind):
                continue
            home = Path(shutil.copytree(base, folder / f"{number}-{kind}"))
            generator = random.Random(f"{seed}-{number}-{kind}")  # noqa: S311 - a seeded moment
            began = time.monotonic()
            try:
                told = kill(home, generator, seconds)
                _well(fer_pipeline(*_RUN, "--home", home, **SMALL))
                problems = traces(home)
                if _crops(home) != expected:
                    problems.append("the crops differ from those of an undisturbed run")
                again = fer_pipeline(*_RUN, "--home", home, **SMALL)
                if again.answer["made"]:
                    problems.append(f"made again: {again.answer['made']}")
            except AssertionError as error:
                told, problems = "", [str(error)]
            word = "; ".join(problems) or "ok"
            _say(f"round {number}, {kind}: {told}: {word} ({time.monotonic() - began:.0f} s)")
            if problems:
                failed += 1
                _say(f"  its home is kept: {shutil.copytree(home, _kept(home))}")
            shutil.rmtree(home)
    _say(f"{failed} of the rounds failed" if failed else "every round ended as it should")
    return 1 if failed else 0


def _kill_worker(home: Path, generator: random.Random, seconds: float) -> str:
    """One to three times whatever worker there is; the run may come through or must say why."""
    run = Command(*_RUN, "--home", home, **SMALL)
    wanted, killed = generator.randint(1, 3), 0
    moment = time.monotonic() + generator.uniform(0, seconds * _EARLY)
    while run.process.poll() is None and killed < wanted:
        workers = run.workers()
        if workers and time.monotonic() >= moment:
            generator.choice(workers).kill()
            killed += 1
            moment = time.monotonic() + generator.uniform(0, 3)
        time.sleep(0.02)
    code = run.process.wait(timeout=600)
    said = run.said
    assert "Traceback" not in said, said
    assert code == 0 or (code == 1 and "goes on from what is there" in said), (code, said)
    return f"{killed} workers killed, exit code {code}"


def _kill_run(home: Path, generator: random.Random, seconds: float) -> str:
    moment = generator.uniform(1, seconds * _EARLY)
    whole_group = generator.random() < 0.5
    run = Command(*_RUN, "--home", home, **SMALL)
    time.sleep(moment)
    if run.process.poll() is not None:
        return "ended before"
    others = run.others()
    if not others:
        run.end()
    else:
        assert all_end(run.kill(whole_group)), "what it started lives on"
    return f"{'group' if whole_group else 'run'} killed after {moment:.1f} s"


def _kill_daemon(home: Path, generator: random.Random, seconds: float) -> str:
    moment = generator.uniform(0, seconds)
    pages = Pages(home, **SMALL)
    try:
        pages.launch()
        time.sleep(moment)
        pages.kill_daemon()
    finally:
        pages.end()
    again = Pages(home, **SMALL)
    try:
        again.wait_until_idle()
    finally:
        again.end()
    return f"daemon killed after {moment:.1f} s"


KINDS: Mapping[str, Callable[[Path, random.Random, float], str]] = {
    "worker": _kill_worker,
    "run": _kill_run,
    "daemon": _kill_daemon,
}


def _crops(home: Path) -> Mapping[str, bytes]:
    (folder,) = (home / "crops").iterdir()
    return crops(folder)


def _well(ended: Ended) -> None:
    assert ended.code == 0, ended.err


def _kept(home: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"fer-soak-failed-{home.name}-")) / "home"


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
