"""Clients that mean harm, and one that does not: for the tests of the door, its benchmark and its fuzzer."""
