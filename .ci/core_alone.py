"""Runs in an environment with the core's dependencies only; see .ci/run."""

import importlib.util
import pathlib
import subprocess
import sys

for name in ('chex', 'flax', 'pydantic', 'matplotlib', 'sklearn', 'typer'):
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
command = pathlib.Path(sys.executable).with_name('gradnorm')
run = subprocess.run([command, 'methods'], capture_output=True, text=True)
assert run.returncode != 0 and '[lab]' in run.stderr, run
assert 'Traceback' not in run.stderr, run.stderr
print('the core works alone:', gn.__version__)
