"""What the tests of this house stand on: servers, proxies, processes, and the rule for what is missing."""
