"""Gradients of one scale in every layer, as optax transformations."""

from importlib import metadata as _metadata

__version__ = _metadata.version('gradnorm_optax')
