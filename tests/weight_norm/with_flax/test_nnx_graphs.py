"""NNX graphs that are no trees of layers: stacked layers, ties and views."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp
from twins import batch

import gradnorm_optax.nnx as in_nnx
from gradnorm_optax.blocks import Blocks


def stacked(make):
  @nnx.split_rngs(splits=3)
  @nnx.vmap
  def build(rngs):
    return make(rngs)
  return build(nnx.Rngs(0))


def one_by_one(model, x):
  return nnx.vmap(lambda m, x: m(x), in_axes=(0, None))(model, x)


def test_fold_of_layers_stacked_by_vmap():
  # A third axis in front of (6, 6): what blocks say of the layer inside does
  # not hold of the kernel as it is seen from outside.
  x = batch((5, 6))
  model = stacked(lambda rngs: in_nnx.WeightNorm(nnx.Linear(6, 6, rngs=rngs)))
  g = model.layer.kernel_g
  assert g.shape == (3, 1, 6)
  g.set_value(g[...] * jnp.arange(1., 19.).reshape(g.shape))
  want = one_by_one(model, x)
  plain = in_nnx.fold(model)
  np.testing.assert_allclose(one_by_one(plain, x), want, rtol=1e-5, atol=1e-5)
  assert nnx.graphdef(plain) == nnx.graphdef(
      stacked(lambda rngs: nnx.Linear(6, 6, rngs=rngs)))


def test_stacked_layers_wrapped_from_outside():
  x = batch((5, 6))
  plain = stacked(lambda rngs: nnx.Linear(6, 6, rngs=rngs))

  class Ensemble(nnx.Module):
    def __init__(self):
      self.members = plain

    def __call__(self, x):
      return one_by_one(self.members, x)

  model = in_nnx.WeightNorm(
      Ensemble(), blocks=Blocks(by='unit', stacked={'members/*': 0}))
  g = model.layer.members.kernel_g
  assert g.shape == (3, 1, 6)
  g.set_value(2 * g[...])
  want = 2 * (one_by_one(plain, x) - plain.bias[...][:, None])
  np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-5)


class Tied(nnx.Module):
  """Two layers that hold one kernel."""

  def __init__(self):
    rngs = nnx.Rngs(0)
    self.a, self.b = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)
    self.b.kernel = self.a.kernel

  def __call__(self, x):
    return self.b(jnp.tanh(self.a(x)))


def test_a_kernel_held_twice_is_replaced_in_both_places():
  x = batch((5, 4))
  model = in_nnx.WeightNorm(Tied())
  v, g = model.layer.a.kernel, model.layer.a.kernel_g
  assert not hasattr(model.layer.b, 'kernel_g')
  g.set_value(2 * g[...])
  w = 2 * v[...]
  want = jnp.tanh(x @ w) @ w
  np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(in_nnx.fold(model)(x), want, rtol=1e-5, atol=1e-5)
  assert model.layer.a.kernel is v is model.layer.b.kernel
  grads = nnx.grad(lambda m: jnp.sum(m(x)))(model)
  slope = jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w) @ w))(w)
  np.testing.assert_allclose(
      grads['layer']['a']['kernel_g'][...][0],
      jnp.sum(slope * v[...], 0) / jnp.linalg.norm(v[...], axis=0),
      rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match="'layer/a/kernel' is tied.*`where=`"):
    in_nnx.data_dependent_init(model, x)


def test_fold_refuses_weights_that_are_used_outside_too():
  pair, alone = Tied(), nnx.Linear(4, 4, rngs=nnx.Rngs(0))
  for model in (
      nnx.Sequential(in_nnx.WeightNorm(pair.a), in_nnx.WeightNorm(pair.b)),
      nnx.Sequential(alone, in_nnx.WeightNorm(alone))):
    with pytest.raises(ValueError, match="'kernel' is used outside its"):
      in_nnx.fold(model)


def test_a_g_of_another_shape_is_named():
  model = in_nnx.WeightNorm(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
  model.layer.kernel_g = nnx.Param(jnp.ones(3))
  with pytest.raises(ValueError, match="'kernel' has shape.*'kernel_g'"):
    model(batch((2, 4)))


def test_views_switch_the_mean_as_that_of_batch_norm():
  x = batch((8, 3))
  for layers in ([nnx.BatchNorm(3, rngs=nnx.Rngs(0)),
                  in_nnx.MeanOnlyBatchNorm(3)],
                 [in_nnx.MeanOnlyBatchNorm(3)]):
    model = nnx.Sequential(*layers)
    view = nnx.view(model, use_running_average=True)
    assert [layer.use_running_average for layer in view.layers] == (
        [True] * len(layers))
    assert not model.layers[-1].use_running_average
    assert view.layers[-1].mean is model.layers[-1].mean
  np.testing.assert_array_equal(view(x), x)  # the mean stored is 0
