"""The studies call Flax and optax, which promote implicitly."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _standard_promotion(_strict_promotion):
  """Lifts the rule of the other tests."""
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    yield
