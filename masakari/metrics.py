"""What the controller counts, in the text format of Prometheus (version 0.0.4). Safe for threads."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from masakari.common.errors import Unavailable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

STEP_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
CALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

Labels = tuple[str, ...]


class _Metric:
    """A name, its help, its labels. Values are kept per combination of label values."""

    kind = ""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self._about = about
        self._labels = tuple(labels)
        self._lock = threading.Lock()

    def render(self) -> Iterator[str]:
        """The lines of this metric, without line ends."""
        yield f"# HELP {self.name} {self._about}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self._samples()

    def _samples(self) -> Iterator[str]:
        raise NotImplementedError

    def _values_of(self, labels: dict[str, str]) -> Labels:
        if len(labels) != len(self._labels):
            raise ValueError(f"{self.name} has the labels {self._labels}, not {tuple(labels)}")
        return tuple(str(labels[label]) for label in self._labels)

    def _line(self, suffix: str, values: Labels, number: float, *, le: str = "") -> str:
        pairs = [*zip(self._labels, values, strict=True), *([("le", le)] if le else [])]
        inside = ",".join(f'{label}="{_escape(value)}"' for label, value in pairs)
        braces = f"{{{inside}}}" if pairs else ""
        return f"{self.name}{suffix}{braces} {_text(number)}"


class _Numbers(_Metric):
    """One number per combination of label values."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, about, labels)
        self._numbers: dict[Labels, float] = {}

    def _samples(self) -> Iterator[str]:
        with self._lock:
            numbers = sorted(self._numbers.items())
        return (self._line("", values, number) for values, number in numbers)


class Counter(_Numbers):
    """Only ever grows, from zero at the start of the process."""

    kind = "counter"

    def inc(self, by: float = 1, **labels: str) -> None:
        """Add `by`. All labels of the metric must be given."""
        values = self._values_of(labels)
        with self._lock:
            self._numbers[values] = self._numbers.get(values, 0) + by


class Gauge(_Numbers):
    """Shows what is now. One that was never set, or was cleared, shows no sample rather than a wrong one."""

    kind = "gauge"

    def set(self, number: float, **labels: str) -> None:
        """Show `number` from now on. All labels of the metric must be given."""
        values = self._values_of(labels)
        with self._lock:
            self._numbers[values] = number

    def clear(self) -> None:
        """Forget every sample."""
        with self._lock:
            self._numbers.clear()


class Histogram(_Metric):
    """How long things take: how many took at most each bound, their number and their sum."""

    kind = "histogram"

    def __init__(self, name: str, about: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, about, labels)
        self._bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, number: float, **labels: str) -> None:
        """Count one that took `number`. All labels of the metric must be given."""
        values = self._values_of(labels)
        place = bisect_left(self._bounds, number)
        with self._lock:
            counts = self._counts.setdefault(values, [0] * (len(self._bounds) + 1))
            counts[place] += 1
            self._sums[values] = self._sums.get(values, 0) + number

    def _samples(self) -> Iterator[str]:
        with self._lock:
            found = sorted(self._counts.items())
            rows = [(values, list(counts), self._sums[values]) for values, counts in found]
        for values, counts, total in rows:
            so_far = 0
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                so_far += count
                yield self._line("_bucket", values, so_far, le=_text(bound))
            yield self._line("_sum", values, total)
            yield self._line("_count", values, so_far)


class Metrics:
    """Everything the controller counts; one object for the process, passed to who counts."""

    def __init__(self) -> None:
        self.reports = Counter("masakari_reports_total", "Callbacks answered, by outcome.", ["outcome"])
        self.recoveries = Gauge("masakari_recoveries", "Recoveries, by status and kind.", ["status", "kind"])
        self.held = Gauge("masakari_held", "Recoveries held, waiting for proof or for an operator.")
        self.held_oldest_age = Gauge("masakari_held_oldest_age_seconds", "Age of the oldest held recovery.")
        self.spares = Gauge("masakari_spares", "Reserved hosts left, by cluster.", ["cluster"])
        self.step_seconds = Histogram(
            "masakari_step_seconds", "Duration of one visit to a step.", ["kind", "step"], STEP_BUCKETS_S
        )
        self.nova_calls = Counter("masakari_nova_calls_total", "Calls to Nova.", ["call", "result"])
        self.nova_seconds = Histogram("masakari_nova_seconds", "Duration of calls to Nova.", ["call"], CALL_BUCKETS_S)
        self._stored = (self.recoveries, self.held, self.held_oldest_age, self.spares)
        self._counted = (self.reports, self.step_seconds, self.nova_calls, self.nova_seconds)
        self._fill: Callable[[Metrics], None] | None = None
        self._scrape = threading.Lock()

    def on_scrape(self, fill: Callable[[Metrics], None]) -> None:
        """Let `fill` set the gauges of what the database holds (recoveries, held, spares) before each scrape.

        They are cleared before. When it raises Unavailable they stay out of the answer; the rest is given.
        """
        self._fill = fill

    def observe_nova(self, call: str, result: str, seconds: float) -> None:
        """Count one call to Nova."""
        self.nova_calls.inc(call=call, result=result)
        self.nova_seconds.observe(seconds, call=call)

    def render(self) -> str:
        """The answer to a scrape."""
        with self._scrape:
            self._refresh()
            metrics = (*self._counted, *self._stored)
            return "\n".join(line for metric in metrics for line in metric.render()) + "\n"

    def _refresh(self) -> None:
        if self._fill is None:
            return
        self._clear()
        try:
            self._fill(self)
        except Unavailable:
            self._clear()

    def _clear(self) -> None:
        for gauge in self._stored:
            gauge.clear()


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _text(number: float) -> str:
    if number == float("inf"):
        return "+Inf"
    return str(int(number)) if number == int(number) else repr(float(number))
