"""Builds of runtimes: from a definition to a tree in the store."""
