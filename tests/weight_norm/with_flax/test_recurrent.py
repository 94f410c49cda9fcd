"""Recurrent nets: the norm is formed once per step, outside the loop."""

import re
import sys

import jax
import numpy as np
import pytest
from flax import linen as nn, nnx
from jax import numpy as jnp

sys.path.insert(0, str(__import__('pathlib').Path(__file__).parents[3]))

from twins import BOTH, batch, named, transplant

from benchmarks.weight_norm import norms_in_loops
from gradnorm_optax import linen as in_linen, nnx as in_nnx


@pytest.mark.parametrize('kind', ['SimpleCell', 'GRUCell', 'LSTMCell'])
@pytest.mark.parametrize('side', BOTH)
def test_inside_and_outside_agree_with_the_plain_cell(side, kind):
  x = batch((2, 5, 3))
  plain = side(lambda p: p.rnn(p.cell(kind, 3, 4)), x)
  outside = side(lambda p: p.wn(p.rnn(p.cell(kind, 3, 4))), x)
  inside = side(lambda p: p.rnn(p.wn(p.cell(kind, 3, 4))), x)
  want = plain.apply(plain.params, x)
  grads = []
  for twin in (outside, inside):
    params = transplant(outside.params, twin.params)
    np.testing.assert_allclose(
        twin.apply(params, x), want, rtol=0, atol=1e-6)
    grads.append(named(jax.jit(jax.grad(
        lambda p, twin=twin: jnp.sum(jnp.sin(twin.apply(p, x)))))(params)))
  lengths = [name for name in grads[0] if name.endswith('_g')]
  assert len(lengths) >= 2
  for name in grads[0]:
    np.testing.assert_allclose(
        grads[0][name], grads[1][name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize('side', BOTH)
def test_no_norm_in_the_loops_of_a_training_step(side):
  x = batch((2, 7, 16))
  twin = side(lambda p: p.wn(p.rnn(p.cell('SimpleCell', 16, 16))), x)

  def step(params):
    grads = jax.grad(lambda p: jnp.sum(twin.apply(p, x)))(params)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

  text = jax.jit(step).lower(twin.params).compile().as_text()
  assert ' while(' in text and norms_in_loops(text) == 0
  # Two kernels: two square roots in all.
  assert len(re.findall(r' r?sqrt\(', text)) == 2


def test_the_counter_sees_a_norm_in_a_loop():
  def walk(w):
    def body(h, _):
      return jnp.tanh(h * jnp.sqrt(jnp.sum(jnp.sin(w + h) ** 2))), None
    return jax.lax.scan(body, w, length=5)[0]

  text = jax.jit(walk).lower(jnp.ones(8)).compile().as_text()
  assert norms_in_loops(text) == 1
  assert norms_in_loops(jax.jit(jnp.sqrt).lower(1.).compile().as_text()) == 0


def test_a_wrapped_cell_answers_as_a_cell():
  cell = in_linen.WeightNorm(nn.LSTMCell(4))
  assert cell.num_feature_axes == 1
  carry = cell.initialize_carry(jax.random.key(0), (2, 3))
  assert jax.tree.map(jnp.shape, carry) == ((2, 4), (2, 4))
  cell = in_nnx.WeightNorm(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
  assert cell.num_feature_axes == 1
  carry = cell.initialize_carry((2, 3), nnx.Rngs(0))
  assert jax.tree.map(jnp.shape, carry) == ((2, 4), (2, 4))
