"""One run, on the disk: figures, checkpoints, going on."""
