"""Benchmarks of the installed agent, each against something measured in the same run."""
