"""The Joblet agent: jobs as transient systemd units, served over gRPC."""
