"""GPUs of the host for jobs: which there are, and who has which."""
