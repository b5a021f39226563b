"""The Joblet agent: jobs as transient systemd units, served over gRPC."""

# The one place of the version: pyproject.toml and rnx read it here, and the build compares debian/changelog.
__version__ = "0.3.0"
