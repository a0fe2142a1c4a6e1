"""How the service does at twice what it carries: `python -m fer_pipeline_tests.service.load`.

The service runs in a process of its own and is driven from this one. First a few clients, each
with one request at a time, find out what it carries; then requests come at twice that rate,
whether or not there are answers yet. Every answer is compared with that of the library.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_pipeline.core.drawing import draw_group
from fer_pipeline.core.recogniser import Face, Recogniser
from fer_pipeline_tests.core.small_release import encoded
from fer_pipeline_tests.service.process import serving

CLIENTS = 8
_CONNECTIONS = 512
_IDLE_SECONDS = 2.0
"""A connection that rested longer is opened anew: the service closes it after five."""
_EXPRESSIONS = ("Happiness", "Surprise", "Anger", "Sadness", "Neutral", "Fear", "Disgust")


@dataclass(frozen=True)
class Picture:
    """A JPEG and what the library sees in it."""

    data: bytes
    faces: Sequence[Face]


@dataclass
class Tally:
    """What came back: answers by status, seconds of those that were 200, and what was wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    broken: int = 0
    elapsed: float = 0.0

    @property
    def rate(self) -> float:
        """Answers with faces, a second."""
        return self.statuses[200] / self.elapsed

    def quantile(self, share: float) -> float:
        """Seconds that this share of the answers took at most."""
        return float(np.quantile(self.seconds, share)) if self.seconds else float("nan")


def pictures(recogniser: Recogniser, count: int = 24) -> list[Picture]:
    """Drawn groups of one to three people, each other ones."""
    found = []
    for number in range(count):
        rng = np.random.default_rng([7, number])
        people = tuple(rng.choice(_EXPRESSIONS, 1 + number % 3).tolist())
        image, _ = draw_group(rng, people, size=(280 * len(people), 320))
        data = encoded(image, "JPEG", quality=90)
        found.append(Picture(data, recogniser.read(data)))
    return found


async def closed_loop(port: int, asked: Sequence[Picture], seconds: float) -> Tally:
    """Ask with a few clients, each as fast as it is answered."""
    tally = Tally()
    start = time.monotonic()

    async def client(number: int) -> None:
        line = _Line(port)
        turn = number
        while time.monotonic() < start + seconds:
            await _one(line, asked[turn % len(asked)], tally)
            turn += CLIENTS
        line.close()

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    tally.elapsed = time.monotonic() - start
    return tally


async def open_loop(port: int, asked: Sequence[Picture], seconds: float, rate: float) -> Tally:
    """Ask at a steady rate, whatever comes back."""
    tally = Tally()
    free: list[_Line] = []
    start = time.monotonic()

    async def one(number: int) -> None:
        line = free.pop() if free else _Line(port)
        await _one(line, asked[number % len(asked)], tally)
        free.append(line)

    async with asyncio.TaskGroup() as group:
        tasks: set[asyncio.Task[None]] = set()
        for number in range(round(seconds * rate)):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            assert len(tasks) < _CONNECTIONS, "answers don't come any more"
            task = group.create_task(one(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    tally.elapsed = time.monotonic() - start
    for line in free:
        line.close()
    return tally


class _Line:
    """One connection, opened again where it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        if time.monotonic() > self._used + _IDLE_SECONDS:
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = (
            f"POST /recognise HTTP/1.1\r\nHost: localhost:{self._port}\r\n"
            f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        await writer.drain()
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(headers["content-length"]))
        self._used = time.monotonic()
        return int(first.split()[1]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def _one(line: _Line, picture: Picture, tally: Tally) -> None:
    start = time.monotonic()
    try:
        status, body = await line.ask(picture.data)
    except (OSError, asyncio.IncompleteReadError):
        tally.broken += 1
        line.close()
        return
    tally.statuses[status] += 1
    if status == 200:
        tally.seconds.append(time.monotonic() - start)
        tally.wrong += not _same(json.loads(body), picture.faces)


def _same(answer: dict[str, Any], faces: Sequence[Face]) -> bool:
    return len(answer["faces"]) == len(faces) and all(
        np.allclose(list(told["box"].values()), face.box)
        and np.allclose(
            list(told["probabilities"].values()),
            list((face.probabilities or {}).values()),
            rtol=0,
            atol=1e-6,
        )
        for told, face in zip(answer["faces"], faces, strict=True)
    )


def _say(what: str, tally: Tally) -> None:
    refused = {status: n for status, n in sorted(tally.statuses.items()) if status != 200}
    print(  # noqa: T201 - the figures are what it is for
        f"{what}: {tally.rate:.1f} answers/s in {tally.elapsed:.1f} s, p50 "
        f"{tally.quantile(0.5) * 1000:.0f} ms, p99 {tally.quantile(0.99) * 1000:.0f} ms; "
        f"refused {refused or 'none'}, wrong {tally.wrong}, broken connections {tally.broken}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    seconds = parser.parse_args().seconds
    asked = pictures(Recogniser.load(threads=1))
    with serving() as service:
        port = service.client.port
        asyncio.run(closed_loop(port, asked, 2))
        carried = asyncio.run(closed_loop(port, asked, min(10, seconds)))
        _say(f"closed loop, {CLIENTS} clients", carried)
        rate = 2 * carried.rate
        _say(
            f"open loop at {rate:.1f} requests/s",
            asyncio.run(open_loop(port, asked, seconds, rate)),
        )
        crashed = service.process.poll() is not None
        again = asyncio.run(closed_loop(port, asked, min(5, seconds)))
        _say("closed loop again", again)
        print(f"crashed: {crashed}; peak memory {service.peak_bytes / 1e6:.0f} MB")  # noqa: T201
        print(f"said: {service.said.strip()!r}")  # noqa: T201


if __name__ == "__main__":
    main()
