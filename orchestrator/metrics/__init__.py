"""What this replica counts and measures, in Prometheus' words; the only room that sees prometheus_client.

It is told by the others and asks nobody but for how the installation stands. No label holds an ID; templates are
bounded by number, tenants appear only where the operator says so (docs/metrics.md).
"""

from orchestrator.metrics.metrics import CONTENT_TYPE, Metrics

__all__ = ["CONTENT_TYPE", "Metrics"]
