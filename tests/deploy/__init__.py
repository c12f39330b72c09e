"""Scenarios: the bundle in real containers. `make integration-test` runs them; see __main__.py."""
