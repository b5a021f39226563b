"""Certificates: making them, keeping them, judging them."""
