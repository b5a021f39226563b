"""What ``make demo``, ``make test`` and ``make bench`` do; standard library only."""
