"""What is counted, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """Counters of one server, in a registry of their own, so that a process may hold several servers."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"instruct_imagen_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = _SECONDS, *labels: str) -> Histogram:
            return Histogram(f"instruct_imagen_{name}", text, labels, buckets=buckets, registry=registry)

        self._gauge = lambda name, text: Gauge(f"instruct_imagen_{name}", text, registry=registry)
        self.requests = counter("http_requests", "Answers by route and status", "route", "status")
        self.request_seconds = histogram("http_request_seconds", "Time to the end of the answer", _SECONDS, "route")
        self.refused = counter("refused", "Requests not taken, by reason", "reason")
        self.cancelled = counter("cancelled", "Requests whose client left or cancelled")
        self.failed = counter("failed", "Requests that could not be drawn")
        self.repeated = counter("repeated", "Requests begun again because their replica was lost")
        self.pictures = counter("pictures", "Pictures drawn")
        self.wait_seconds = histogram("wait_seconds", "Time from acceptance to the first step")
        self.step_seconds = histogram("step_seconds", "Time of one step of the whole batch")
        self.batch_pictures = histogram("batch_pictures", "Pictures in one network call", (1, 2, 4, 8, 16, 32, 64))

    def watch_engine(self, num_waiting: Callable[[], int], num_running: Callable[[], int]) -> None:
        """Shows the length of the queue and of the batch."""
        self._gauge("waiting_pictures", "Pictures that wait for a place").set_function(num_waiting)
        self._gauge("running_pictures", "Pictures in the batch").set_function(num_running)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
