"""A collector that takes OTLP over HTTP and keeps every span."""

from __future__ import annotations

import gzip
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class FakeCollector(ThreadingHTTPServer):
    """Listens on a free port of loopback; answers once `gate` is open, as it is at first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self._lock = threading.Lock()
        self._spans: dict[str, list[Span]] = defaultdict(list)
        self.services: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    @property
    def endpoint(self) -> str:
        """Base address for `FRAUD_TELEMETRY_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self.server_port}"

    def keep(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of one request."""
        with self._lock:
            for resource in request.resource_spans:
                self.services |= {
                    a.value.string_value
                    for a in resource.resource.attributes
                    if a.key == "service.name"
                }
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self._spans[span.trace_id.hex()].append(span)

    def all_spans(self) -> list[Span]:
        """Return every span that came."""
        with self._lock:
            return [span for spans in self._spans.values() for span in spans]

    def trace(self, trace_id: str) -> dict[str, Span]:
        """Return the spans of one trace by name."""
        with self._lock:
            return {span.name: span for span in self._spans[trace_id]}


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        collector = cast("FakeCollector", self.server)
        collector.keep(ExportTraceServiceRequest.FromString(body))
        collector.gate.wait(10)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # inherited name
        return


@contextmanager
def running_collector() -> Iterator[FakeCollector]:
    """Run a collector for as long as the block lasts."""
    collector = FakeCollector()
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    yield collector
    collector.gate.set()
    collector.shutdown()
    collector.server_close()
