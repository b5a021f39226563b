"""Networks of jobs: which there are, who is on them, and at which address."""
