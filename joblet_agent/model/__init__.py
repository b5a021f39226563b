"""Values, without behaviour that needs a host."""
