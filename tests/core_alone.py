"""Runs in an environment with the core's dependencies only; see .ci/run."""

import importlib.util
import sys

for name in ('flax', 'pydantic', 'matplotlib', 'sklearn', 'typer'):
  assert importlib.util.find_spec(name) is None, f'{name} is installed'

import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

import gradnorm_optax as gn  # noqa: E402

params = {'Dense_0': {'kernel': jnp.ones((4, 2)), 'bias': jnp.zeros(2)}}
for tx in (gn.bng(optax.sgd(0.1)), gn.sing(0.1),
           gn.weight_normalized(optax.adam(0.1)),
           gn.path_sgd(0.1, lambda p, x: x @ p['Dense_0']['kernel'],
                       jnp.zeros(4))):
  updates, _ = tx.update(params, tx.init(params), params)
  assert jnp.isfinite(updates['Dense_0']['kernel']).all()
try:
  import gradnorm_optax.lab.cli as cli
  sys.exit(f'the lab imported without its extra: {cli}')
except ImportError as error:
  assert '[lab]' in str(error), error
except SystemExit as stop:
  assert '[lab]' in str(stop), stop
print('the core works alone:', gn.__version__)
