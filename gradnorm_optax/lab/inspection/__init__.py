"""The blocks' norms at the first batches, shown."""
