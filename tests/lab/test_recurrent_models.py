"""The recurrent model as the lab uses it: shapes, lengths, weight norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.models import nets, recurrent
from gradnorm_optax.lab.models.recurrent import Recurrent
from gradnorm_optax.lab.training import make_problem

KEY = jax.random.key(0)


def run(model, x, **options):
  variables = model.init(KEY, x)
  return model.apply(variables, x, **options)


@pytest.mark.parametrize('cell', recurrent.GATES)
def test_padding_makes_no_difference(cell):
  """Nor has it a gradient: each sequence alone, cut to its length."""
  lengths = jnp.array([5, 2, 7])
  x = jax.random.normal(KEY, (3, 7, 4))
  model = Recurrent(2, width=6, cell=cell)
  variables = model.init(KEY, x)
  shape = model.perturb_shape(7, 3)

  def padded(perturb):
    return model.apply(variables, x, perturb=perturb, lengths=lengths)

  got = padded(jnp.zeros(shape))
  assert got.shape == (3, 2)
  for i, length in enumerate(lengths):
    np.testing.assert_allclose(
        got[i], model.apply(variables, x[i:i + 1, :length])[0], rtol=1e-5,
        atol=1e-6)
  slope = jax.grad(lambda p: padded(p).sum())(jnp.zeros(shape))
  alive = np.abs(slope).sum(-1) > 0
  np.testing.assert_array_equal(
      alive, np.arange(7)[:, None] < np.asarray(lengths))


def test_readouts():
  x = jax.random.randint(KEY, (3, 7), 0, 5)
  every = run(Recurrent(2, 5, 6, readout=7), x)
  assert every.shape == (3, 7, 2)
  kept = run(Recurrent(2, 5, 6, readout=7), x, lengths=jnp.array([7, 4, 1]))
  for got, want in [
      (run(Recurrent(2, 5, 6, readout=3), x), every[:, -3:]),
      (run(Recurrent(2, 5, 6), x), every[:, -1]),
      (kept[1, :4], every[1, :4])]:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_the_rows_of_a_picture_are_its_steps():
  x = jax.random.normal(KEY, (3, 24))
  model = Recurrent(2, width=6, image=(4, 3, 2))
  np.testing.assert_allclose(
      run(model, x), run(Recurrent(2, width=6), x.reshape(3, 4, 6)), rtol=1e-5)


def test_what_is_no_sequence_is_refused():
  x = jnp.zeros((3, 24))
  with pytest.raises(ValueError, match=r'not float32 of shape \(3, 24\)'):
    run(Recurrent(2), x)
  with pytest.raises(ValueError, match='`inputs`, their number'):
    run(Recurrent(2), x.astype(jnp.int32))
  with pytest.raises(ValueError, match='reads 3 channels'):
    run(Recurrent(2, 3), x[..., None])
  with pytest.raises(ValueError, match='readout=2.*unequal lengths'):
    run(Recurrent(2, readout=2), x[..., None], lengths=jnp.array([1, 2, 3]))


def test_bfloat16():
  x = jax.random.normal(KEY, (3, 7, 4))
  model = Recurrent(2, width=6, cell='lstm', dtype=jnp.bfloat16)
  variables = model.init(KEY, x)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
      jnp.dtype('float32')}
  out = model.apply(variables, x)
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(out, model.clone(dtype=None).apply(
      variables, x), atol=0.03)


@pytest.mark.parametrize('options', [
    {}, {'cell': 'lstm', 'init': 'orthogonal', 'norm': 'weight'},
    {'cell': 'gru', 'init': 'radius', 'scale': 0.9}])
def test_built_from_its_table(options):
  table = schema.RecurrentNet(kind='recurrent', width=6, **options)
  built = nets.make(table, 4, None, jnp.float32, inputs=6)
  out = run(built.module, jnp.zeros((2, 5), jnp.int32))
  assert out.shape == (2, 4)
  table = nets.make(table, 4, None, inputs=6, readout=2).module
  assert run(table, jnp.zeros((2, 5), jnp.int32)).shape == (2, 2, 4)


def test_every_position_of_a_text_is_answered():
  dataset = sources.load(schema.Data(source='characters', length=9, size=40))
  made = make_problem.join(
      schema.RecurrentNet(kind='recurrent', cell='gru', width=5), dataset)
  params, extra = made.init(0)
  out = made.outputs(params, extra, dataset.test.x)
  assert out.shape == (*dataset.test.y.shape, dataset.outputs)
  assert np.isfinite(made.loss(params, extra, *dataset.test)[0])


def test_an_activation_belongs_to_the_simple_cell():
  with pytest.raises(ValueError, match='activation belongs to cell = "srn"'):
    schema.RecurrentNet(kind='recurrent', cell='gru', activation='relu')
