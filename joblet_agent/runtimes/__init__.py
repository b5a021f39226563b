"""Runtimes: the store of trees, and what makes, brings and uses them."""
