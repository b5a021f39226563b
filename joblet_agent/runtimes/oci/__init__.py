"""Runtimes as OCI images, and OCI images as runtimes: archives are read and written here alone."""
