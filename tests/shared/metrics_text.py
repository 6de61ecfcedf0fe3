"""What metrics say, by the parsers of prometheus_client."""

import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def samples_of(text, is_openmetrics=False):
    """Give all samples by name and labels, as they are written but for escapes."""
    seen = {}
    for family in (parse_openmetrics if is_openmetrics else parse_prometheus)(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in seen, f"{name} is there twice"
            seen[name] = sample.value
    return seen


def fetch(port, is_openmetrics=False):
    """Ask an instance for its metrics over HTTP."""
    accept = {"Accept": OPENMETRICS} if is_openmetrics else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=accept)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return samples_of(answer.read().decode(), is_openmetrics)
