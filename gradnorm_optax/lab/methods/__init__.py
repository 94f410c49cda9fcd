"""From a method's table to an optax chain."""
