"""Where a platform runs: the port that components use, and one package per target."""
