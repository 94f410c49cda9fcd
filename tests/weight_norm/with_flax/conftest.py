"""Flax promotes dtypes and ranks by itself: lifts the suite's strict rule."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _ordinary_promotion():
  with (
      jax.numpy_dtype_promotion('standard'),
      jax.numpy_rank_promotion('allow'),
  ):
    yield
