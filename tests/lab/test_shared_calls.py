"""Trials that share a call compute what one alone would, and no more."""

import collections

import jax
import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison.model_programs import Bench
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.training.program import Program

MLP = {
    'data': {'source': 'iris'},
    'models': {'net': {'kind': 'mlp', 'depth': 1, 'width': 4}},
    'methods': {'m': {'optimizer': 'sgd'}},
    'train': {'steps': 18, 'batch_size': 20, 'eval_every': 6}}
SRN = {
    'data': {'source': 'long_dependency', 'task': 'temporal_order',
             'length': 12, 'sizes': [24, 8, 8]},
    'models': {'net': {'kind': 'recurrent', 'width': 4}},
    'methods': {'m': {'optimizer': 'sgd', 'sampling': {'size': 4}}},
    'train': {'steps': 4, 'batch_size': 12, 'eval_every': 2}}


def programs(values, batch):
  config = lab.load(values)
  bench = Bench(config.models['net'], sources.load(config.data, config.train),
                config.train, batch)
  return bench, config.methods['m']


def primitives(jaxpr, inside=''):
  """How often each primitive stands where: {(loops and branches, name): n}."""
  found = collections.Counter()
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    found[inside, name] += 1
    here = f'{inside}/{name}' if name in ('while', 'scan', 'cond') else inside
    for part in jax.tree.leaves(
        list(equation.params.values()),
        is_leaf=lambda p: hasattr(p, 'eqns') or hasattr(p, 'jaxpr')):
      part = getattr(part, 'jaxpr', part)
      if hasattr(part, 'eqns'):
        found += primitives(part, here)
  return found


@pytest.mark.parametrize('values', [MLP, SRN])
def test_what_is_rare_stays_a_condition(values):
  """Neither a new order nor the pool's scores in every step of a shared call.

  Sorts make the order, and top_k the choice from the pool.
  """
  bench, method = programs(values, 3)
  start = bench._start([0, 1, 2])
  program = Program(bench.problem, method, bench.train, 3)
  traced = jax.make_jaxpr(program.trials)(
      bench._data, *start[:2], np.zeros(3, np.float32), start[2],
      np.int32(1), np.int32(1), np.array(True))
  found = primitives(traced.jaxpr)
  rare = {where for (where, name) in found if name in ('sort', 'top_k')}
  assert rare and all(where.endswith('/cond') for where in rare), rare
  # The steps stand in a loop of their own, in that of the evaluations.
  assert all(where.count('/') == 3 for where in rare), rare
  alone = programs(values, 1)[0]
  one = jax.make_jaxpr(Program(alone.problem, method, alone.train).trials)(
      alone._data, *alone._start([0])[:2], np.float32(0), np.int32(0),
      np.int32(1), np.int32(1), np.array(True))
  conds = [sum(n for (_, name), n in counts.items() if name == 'cond')
           for counts in (found, primitives(one.jaxpr))]
  assert conds[0] == conds[1]


@pytest.mark.parametrize('values, lost', [(MLP, True), (SRN, False)])
def test_a_shared_call_gives_what_single_ones_give(values, lost):
  """Also where an evaluation cuts an epoch, and beside one that diverges."""
  rates, seeds = (1e-3, 1e30, 1e-2), (0, 1, 2)
  shared, method = programs(values, 3)
  alone, _ = programs(values, 1)
  together = shared.run(method, rates, seeds, test=True)
  for rate, seed, got in zip(rates, seeds, together, strict=True):
    want, = alone.run(method, (rate,), (seed,), test=True)
    assert got.diverged == want.diverged
    for name, figures in want.history.items():
      np.testing.assert_allclose(
          got.history[name], figures, rtol=2e-3, err_msg=name)
    if not want.diverged:
      assert got.test['loss'] == pytest.approx(want.test['loss'], rel=2e-3)
  assert [one.diverged for one in together] == [False, lost, False]
