"""The job core: use cases, states, logs."""
