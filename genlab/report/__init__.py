"""Report of runs: one HTML page with curves, pictures and metrics, which needs no server and no network."""
