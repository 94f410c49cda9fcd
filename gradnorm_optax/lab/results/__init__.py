"""What trials left, and what it lets one say."""
