"""Many trials: run, timed and judged."""
