"""Every transformation compiled, on NumPy's arrays, and on replicas."""

import chex
import jax
import numpy as np
from absl.testing import parameterized
from contract import ROWS, Row, flat, problem


class Variants(chex.TestCase):
  """One step and its state: the same however the update is called."""

  @chex.variants(with_jit=True, without_device=True, with_pmap=True)
  @parameterized.named_parameters((row.name, row) for row in ROWS)
  def test_update(self, row: Row):
    g, p = problem()
    tx = row.tx()
    # Replicas: inside pmap nobody but the caller knows that they are.
    whole = {'full_params': p} if row.whole else {}
    with row.promotion():
      state = tx.init(p)
      update = self.variant(lambda *args: tx.update(*args, **whole))
      updates, new = update(g, state, p)
    chex.assert_trees_all_equal_shapes_and_dtypes((updates, new), (g, state))
    chex.assert_tree_all_finite(updates)
    if row.name != 'watch':  # whose ranges are open to infinity at first
      chex.assert_tree_all_finite(new)
    want = row.reference(flat(g), flat(p))
    chex.assert_trees_all_close(
        {path: np.asarray(u) for path, u in flat(updates).items()},
        jax.tree.map(np.float32, want), rtol=1e-5, atol=1e-6)
