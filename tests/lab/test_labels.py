"""Which labels there are: of an example, of a position, or none at all."""

import numpy as np
import pytest

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.objective import usual
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import make_problem

HERE = __name__
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(60, 2))
SERIES = RNG.normal(size=(60, 4, 3))
LENGTHS = 1 + np.arange(60) % 4
RAGGED = [one[:n] for one, n in zip(SERIES, LENGTHS, strict=True)]
TWO = RNG.integers(2, size=(60, 2))
FOUR = RNG.integers(3, size=(60, 4))
INSIDE = np.arange(4) < LENGTHS[:, None]
GIVEN = {}  # what `given` returns


def given():
  return GIVEN['value']


def call(*value, **keys):
  GIVEN['value'] = value
  return sources.load(schema.Data(
      source='function', target=f'{HERE}:given', **keys))


@pytest.mark.parametrize('value, keys, words', [
    ((TABLE, TWO), {}, r'labels of shape \(60, 2\) beside inputs of shape '
     r'\(60, 2\): 2 labels of an example, or one for each of its 2 positions\? '
     r'Set data\.labels_per = "position", or give one class .* y\[:, 0\]'),
    ((TABLE, 1. * TWO), {'predict': 'number'},
     'Set data.labels_per = "position" or "example"'),
    ((SERIES, 1. * FOUR), {'predict': 'number'}, '"position" or "example"'),
    ((SERIES, 1. * FOUR, np.full(60, 4)), {'predict': 'number'}, 'or "examp'),
    # Behind the ends of the sequences stands more than padding.
    ((SERIES, 1. + FOUR, LENGTHS), {'predict': 'number'}, 'or "example"'),
    ((TABLE, TWO), {'labels_per': 'example'},
     r'not \(60,\): one class for each example \(data.labels_per = "exam'),
    ((TABLE, TWO[:, 0]), {'labels_per': 'position'},
     r'shape \(60,\), not \(60, 2\): one class for each of the 2 steps'),
    ((TABLE, SERIES), {'predict': 'number', 'labels_per': 'position'},
     r'shape \(60, 4, 3\), not \(60, 2\): one number'),
])
def test_shapes_that_can_be_read_in_two_ways(value, keys, words):
  with pytest.raises(LabError, match=words):
    call(*value, **keys)


@pytest.mark.parametrize('value, keys, positions, shape, outputs', [
    ((TABLE, TWO), {'labels_per': 'position'}, True, (2,), 2),
    ((TABLE, 1. * TWO), {'predict': 'number', 'labels_per': 'position'}, True,
     (2,), 1),
    ((TABLE, 1. * TWO), {'predict': 'number', 'labels_per': 'example'}, False,
     (2,), 2),
    ((SERIES, 1. * FOUR), {'predict': 'number', 'labels_per': 'example'},
     False, (4,), 4),
    ((SERIES, FOUR), {}, True, (4,), 3),  # an example has one class
    ((SERIES, np.where(INSIDE, 1. + FOUR, 0), LENGTHS), {'predict': 'number'},
     True, (4,), 1),
    ((RAGGED, [1. + y[:n] for y, n in zip(FOUR, LENGTHS, strict=True)]),
     {'predict': 'number'}, True, (4,), 1)])
def test_shapes_that_leave_one_reading(value, keys, positions, shape, outputs):
  found = call(*value, **keys)
  assert found.objective.positions == positions
  assert found.train.y.shape[1:] == shape and found.outputs == outputs


def test_labels_per_is_for_arrays():
  with pytest.raises(ValueError, match='labels_per has no meaning with a path'):
    schema.Data(source='file', path='a.csv', labels_per='position')


@pytest.mark.parametrize('number, how', [
    (False, -100), (False, np.nan), (False, None), (True, np.nan),
    (True, None)])
def test_positions_without_a_label_count_nowhere(number, how):
  """Figures are those of the labels that there are, one by one."""
  gone = INSIDE & (RNG.random((60, 4)) < 0.4)
  gone[:, 0] &= LENGTHS > 1  # one label is left in every sequence
  gone[np.arange(60), LENGTHS - 1] = False
  y = FOUR.astype(object if how is None else float)
  y[gone] = how
  y = [one[:n].tolist() for one, n in zip(y, LENGTHS, strict=True)]
  found = call(RAGGED, y, **({'predict': 'number'} if number else {}))
  assert f'{gone.sum()} of {INSIDE.sum()} positions without a label, which ' \
         'count nowhere' in found.description
  part, objective = found.train, found.objective
  held = part.y >= 0 if not number else ~np.isnan(part.y)
  held &= np.arange(4) < part.lengths[:, None]
  assert held.any(1).all() and not held.all()
  width = 1 if number else 3
  out = RNG.normal(size=(*part.y.shape, width)).astype(np.float32)
  flat = part.y[held]
  plain = usual.numbers(flat) if number else usual.classes(3, flat)
  assert float(objective.count(part.y, part.lengths)) == held.sum()
  losses = np.asarray(objective.losses(out, part.y, part.lengths))
  np.testing.assert_allclose(
      losses[held], plain.losses(out[held], flat), rtol=1e-5)
  assert not losses[~held].any()
  spread = objective.spread(part.y, objective.mask(part.y, part.lengths))
  scores = np.asarray(objective.scores(out, part.y, part.lengths, spread))
  np.testing.assert_allclose(
      scores[held], plain.scores(out[held], flat, None, plain.spread(
          flat, None)), rtol=1e-4, atol=1e-6)
  if how is not None:  # as it goes through the model, once for each kind
    return
  made = make_problem.join(
      schema.RecurrentNet(kind='recurrent', width=3), found)
  params, extra = made.init(0)
  loss, _ = made.loss(params, extra, *part)
  out = made.outputs(params, extra, part.x, part.lengths)
  assert float(loss) == pytest.approx(
      float(plain.losses(out[held], flat).mean()), rel=1e-5)
  assert all(np.isfinite(list(made.evaluate(params, extra, part).values())))


def test_a_sequence_without_any_label():
  y = FOUR.astype(float)
  y[7] = np.nan
  with pytest.raises(LabError, match=r'example 7: no label \(1 such row\)'):
    call(SERIES, y)
  found = call(SERIES, y, unlabeled='drop')
  assert '1 unlabeled row left out' in found.description
  assert sum(len(part.y) for part in found[:3]) == 59
  y[8, 2] = np.inf
  with pytest.raises(LabError, match=r'example 7: no finite label \(2 such'):
    call(SERIES, y)


def shaken(values, place, value):
  found = np.array(values)
  found[place] = value
  return found


@pytest.mark.parametrize('y, words', [
    (np.full(60, 7.), 'the label is one and the same number in the 42'),
    (.1 + 1e-17 * (np.arange(60) % 3), 'one and the same number in the 42'),
    (1e9 + np.zeros((60, 3)) + np.arange(60)[:, None] * [1, 0, 1],
     'the label, number 1, is one and the same'),
    (shaken(TABLE[:, 0], 5, 1e12),
     r'given: example 5: the label 1e\+12 lies so far from the others that '
     'these are one number in float32, in the .* part; mend it'),
    (2 ** 60 + np.arange(60), 'example 0: a label of more than 2..53, whose'),
    ([2 ** 60 + i for i in range(60)], 'example 0: a label of more than 2..53'),
])
def test_numbers_are_looked_at_before_they_are_narrowed(y, words):
  with pytest.raises(LabError, match=words):
    call(np.arange(120.).reshape(60, 2), y, predict='number')


def test_large_numbers_that_vary():
  y = 1.7e9 + np.arange(60)
  found = call(TABLE, y, predict='number')
  assert np.unique(found.train.y).size == len(found.train.y)
  assert 'an error?' not in found.description


def test_a_label_far_out_is_told():
  found = call(TABLE, shaken(TABLE[:, 0], 5, 1e5), predict='number')
  assert 'example 5: the label 100000 lies' in found.description
  assert 'of the labels: an error?' in found.description


def test_the_order_of_the_classes_is_told():
  y = np.array(['ok', 'bad', 'Odd'])[np.arange(60) % 3]
  found = call(TABLE, y)
  assert 'in the order Odd, bad, ok' in found.description
  assert found.objective.classes == (('Odd', 'bad', 'ok'), (20, 20, 20))
  assert found.train.y[0] in range(3)
  numbers = call(TABLE, np.array([10, 9, 2])[np.arange(60) % 3])
  assert numbers.objective.classes.names == ('2', '9', '10')
