"""Benchmarks against channels_redis; ``make bench`` runs them, ``docs/explanation/benchmarks.md`` explains them."""
