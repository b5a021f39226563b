"""Workflows on this side: their files, what is sent with them, how they are watched and shown."""
