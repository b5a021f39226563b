"""Runtimes on the command line: what there is, builds as they go, archives."""
