"""What the service counts, as Prometheus reads it."""

import time
from collections import Counter as Counted
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer_pipeline.core.recogniser import Face

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
_FACES = (0, 1, 2, 4, 8, 16, 32, 64)
_METHODS = ("GET", "POST")


class Metrics:
    """The counters of one service; a registry of its own lets several live in a process."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """`waiting` tells how many requests are under way now."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fer_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "fer_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.faces = Counter(
            "fer_faces", "Faces that were read, by status.", ("status",), registry=self.registry
        )
        self.batches = Histogram(
            "fer_batch_faces",
            "Faces that went through the network together.",
            buckets=_FACES,
            registry=self.registry,
        )
        self.refused = Counter(
            "fer_refused",
            "Requests that were refused because too many were under way.",
            registry=self.registry,
        )
        self.timed_out = Counter(
            "fer_timed_out", "Requests that weren't answered in time.", registry=self.registry
        )
        Gauge(
            "fer_queue_length", "Requests that wait or are worked on.", registry=self.registry
        ).set_function(waiting)

    def count_faces(self, faces: Sequence[Face]) -> None:
        """Count faces that were read."""
        for status, count in Counted(face.status for face in faces).items():
            self.faces.labels(status.value).inc(count)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class CountRequests:
    """ASGI middleware: counts every answer and its time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Count what `app` answers."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            # Neither a path nor a method that anybody can invent: each would be a new counter.
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - start)
