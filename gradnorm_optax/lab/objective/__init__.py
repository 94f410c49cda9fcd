"""What a run minimizes, and the quality by which it is judged."""
