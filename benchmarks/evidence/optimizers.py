"""Optimizers for the studies, as `optimizer = "module:function"` takes them."""

import optax


def decayed_momentum(
    learning_rate: optax.ScalarOrSchedule, momentum: float = 0.9,
    weight_decay: float = 1e-4, nesterov: bool = False,
) -> optax.GradientTransformation:
  """SGD with momentum and decay, added to the gradient as Torch's SGD does."""
  return optax.chain(
      optax.add_decayed_weights(weight_decay),
      optax.sgd(learning_rate, momentum, nesterov))
