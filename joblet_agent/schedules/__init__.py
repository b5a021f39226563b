"""Recurring schedules: what is due, and the use cases around them."""
