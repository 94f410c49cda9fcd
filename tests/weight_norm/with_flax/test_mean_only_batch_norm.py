"""`MeanOnlyBatchNorm` where `BatchNorm` stood: arguments, complex inputs."""

import jax
import numpy as np
import pytest
from flax import linen as nn, nnx
from jax import numpy as jnp

from gradnorm_optax import linen as in_linen, nnx as in_nnx

X = jax.random.normal(jax.random.key(0), (6, 3), jnp.complex64)


def test_complex_inputs_keep_their_imaginary_part():
  ref = np.asarray(X, np.complex128)
  mean = ref.mean(0)
  linen = in_linen.MeanOnlyBatchNorm()
  variables = linen.init(jax.random.key(0), X, use_running_average=False)
  twin = in_nnx.MeanOnlyBatchNorm(3, param_dtype=jnp.complex64)
  y, state = linen.apply(
      variables, X, use_running_average=False, mutable=['batch_stats'])
  variables = {**variables, **state}
  for got, average in ((y, state['batch_stats']['mean']),
                       (twin(X), twin.mean[...])):
    assert got.dtype == average.dtype == jnp.complex64
    np.testing.assert_allclose(got, ref - mean, rtol=0, atol=2e-6)
    np.testing.assert_allclose(average, 0.1 * mean, rtol=1e-5)
  for got in (linen.apply(variables, X, use_running_average=True),
              twin(X, use_running_average=True)):
    np.testing.assert_allclose(got, ref - 0.1 * mean, rtol=0, atol=2e-6)


def test_what_would_lose_an_imaginary_part_is_refused():
  real = in_linen.MeanOnlyBatchNorm(False)
  variables = real.init(jax.random.key(0), X.real)
  with pytest.raises(TypeError, match='average float32, which would lose'):
    real.apply(variables, X, mutable=['batch_stats'])
  with pytest.raises(TypeError, match='param_dtype=complex64'):
    in_nnx.MeanOnlyBatchNorm(3)(X)
  with pytest.raises(TypeError, match="dtype='float32'.*imaginary part"):
    in_nnx.MeanOnlyBatchNorm(
        3, param_dtype=jnp.complex64, dtype=jnp.float32)(X)


def test_takes_what_is_given_to_batch_norm():
  """The arguments that have a meaning here, under the same names."""
  options = {
      'use_running_average': False, 'axis': -1, 'momentum': 0.9,
      'dtype': jnp.float32, 'param_dtype': jnp.float32, 'use_bias': True,
      'bias_init': nnx.initializers.normal(), 'axis_name': None}
  more = {'bias_metadata': {'of': 'units'}}
  theirs = nnx.BatchNorm(
      3, use_scale=False, rngs=nnx.Rngs(7), **options, **more)
  mine = in_nnx.MeanOnlyBatchNorm(3, rngs=nnx.Rngs(7), **options, **more)
  np.testing.assert_array_equal(theirs.bias[...], mine.bias[...])
  assert mine.bias.get_metadata() == theirs.bias.get_metadata()
  theirs, mine = (
      module(**options).init(jax.random.key(7), X.real)['params']['bias']
      for module in (nn.BatchNorm, in_linen.MeanOnlyBatchNorm))
  assert theirs.shape == mine.shape and np.all(np.asarray(mine) != 0)
  np.testing.assert_array_equal(
      in_nnx.MeanOnlyBatchNorm(3, rngs=nnx.Rngs(0)).bias[...], 0)
  with pytest.raises(ValueError, match=r'pass rngs.*nnx\.Rngs\(0\)'):
    in_nnx.MeanOnlyBatchNorm(3, bias_init=nnx.initializers.normal())
