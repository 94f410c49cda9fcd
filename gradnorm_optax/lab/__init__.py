"""The lab: the `gradnorm` command and the same functions from Python.

A configuration (TOML) names the data, the models and the methods; the lab
trains every method at every learning rate over several seeds and prints how
they compare. The library itself never imports this package, and this package
imports JAX, Flax and the rest only when a command needs them.
"""
