"""A real Kubernetes of one node for the tests, from Go modules and Debian's packages: no registry, no download page."""
