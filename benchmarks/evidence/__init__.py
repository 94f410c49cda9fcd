"""Evidence: what each method does, by one protocol."""
