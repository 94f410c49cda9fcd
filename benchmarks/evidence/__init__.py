"""What each method does, measured by one protocol."""
