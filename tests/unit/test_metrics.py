"""What a scrape shows."""

from __future__ import annotations

import threading

import pytest

from masakari.common.errors import Unavailable
from masakari.metrics import Counter, Histogram, Metrics


def lines(metrics: Metrics, name: str) -> list[str]:
    """The samples of one metric."""
    return [line for line in metrics.render().splitlines() if line.startswith(name)]


def test_every_metric_is_announced_before_anything_happened() -> None:
    text = Metrics().render()
    for name, kind in [
        ("masakari_reports_total", "counter"),
        ("masakari_recoveries", "gauge"),
        ("masakari_held", "gauge"),
        ("masakari_held_oldest_age_seconds", "gauge"),
        ("masakari_spares", "gauge"),
        ("masakari_step_seconds", "histogram"),
        ("masakari_nova_calls_total", "counter"),
        ("masakari_nova_seconds", "histogram"),
    ]:
        assert f"# HELP {name} " in text
        assert f"# TYPE {name} {kind}\n" in text
    assert text.endswith("\n")


def test_a_counter_adds_up_per_label() -> None:
    metrics = Metrics()
    metrics.reports.inc(outcome="accepted")
    metrics.reports.inc(outcome="accepted")
    metrics.reports.inc(outcome="refused")
    assert lines(metrics, "masakari_reports_total") == [
        'masakari_reports_total{outcome="accepted"} 2',
        'masakari_reports_total{outcome="refused"} 1',
    ]


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    metrics.spares.set(3, cluster='a"b\\c\nd')
    assert lines(metrics, "masakari_spares") == [r'masakari_spares{cluster="a\"b\\c\nd"} 3']


def test_forgotten_labels_are_an_error() -> None:
    with pytest.raises(ValueError, match="outcome"):
        Metrics().reports.inc()


def test_calls_to_nova_are_counted_and_timed() -> None:
    metrics = Metrics()
    metrics.observe_nova("evacuate", "200", 0.02)
    metrics.observe_nova("evacuate", "200", 20)
    assert lines(metrics, "masakari_nova_calls_total") == ['masakari_nova_calls_total{call="evacuate",result="200"} 2']
    timed = lines(metrics, "masakari_nova_seconds")
    assert 'masakari_nova_seconds_bucket{call="evacuate",le="0.01"} 0' in timed
    assert 'masakari_nova_seconds_bucket{call="evacuate",le="0.025"} 1' in timed
    assert 'masakari_nova_seconds_bucket{call="evacuate",le="10"} 1' in timed
    assert 'masakari_nova_seconds_bucket{call="evacuate",le="+Inf"} 2' in timed
    assert 'masakari_nova_seconds_sum{call="evacuate"} 20.02' in timed
    assert 'masakari_nova_seconds_count{call="evacuate"} 2' in timed


def test_a_value_on_a_bound_counts_below_it() -> None:
    histogram = Histogram("h", "help", [], [1, 2])
    histogram.observe(1)
    assert 'h_bucket{le="1"} 1' in list(histogram.render())


def test_gauges_of_the_database_are_filled_at_each_scrape() -> None:
    metrics = Metrics()
    held = [2, 1]

    def fill(to: Metrics) -> None:
        count = held.pop()
        to.held.set(count)
        to.recoveries.set(count, status=f"held{count}", kind="host")

    metrics.on_scrape(fill)
    assert lines(metrics, "masakari_recoveries") == ['masakari_recoveries{status="held1",kind="host"} 1']
    assert lines(metrics, "masakari_recoveries") == ['masakari_recoveries{status="held2",kind="host"} 2']


def test_without_the_database_its_gauges_are_left_out_and_the_rest_is_shown() -> None:
    metrics = Metrics()
    metrics.held.set(7)
    metrics.reports.inc(outcome="unavailable")

    def fill(to: Metrics) -> None:
        to.held.set(8)
        raise Unavailable("database away")

    metrics.on_scrape(fill)
    assert lines(metrics, "masakari_held") == []
    assert lines(metrics, "masakari_reports_total") == ['masakari_reports_total{outcome="unavailable"} 1']


def test_threads_lose_no_count() -> None:
    counter = Counter("c", "help", ["x"])

    def count() -> None:
        for _ in range(2000):
            counter.inc(x="y")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(counter.render())[-1] == 'c{x="y"} 8000'
