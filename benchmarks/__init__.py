"""Speed of this package beside a plain way of doing the same work: `python -m benchmarks`."""
