"""Fetching files from mirrors, and reading what came without trusting it."""
