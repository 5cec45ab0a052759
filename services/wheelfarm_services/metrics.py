"""Metrics of the farm, read from the ledger when they are asked for. No label names a project."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from wheelfarm_services.ledger import Ledger


def exposition(ledger: Ledger) -> bytes:
    """The metrics in Prometheus's text format. Raises FarmUnavailable without Redis."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Queues(ledger))
    return generate_latest(registry)


class _Queues(Collector):
    def __init__(self, ledger: Ledger) -> None:
        self._lengths = ledger.queues()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of the queues."""
        gauge = GaugeMetricFamily("wheelfarm_queue_jobs", "Jobs that could be claimed now.", labels=["queue"])
        for queue, length in self._lengths.items():
            gauge.add_metric([queue], length)
        yield gauge
