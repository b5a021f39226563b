"""Volumes: storage that outlives a job and can be in several."""
