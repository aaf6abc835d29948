"""Real servers for tests: private, on loopback, gone with the test run."""
