"""Workflows: jobs that depend on one another, followed to their end."""
