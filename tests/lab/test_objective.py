"""Losses, qualities and what guessing gives, against NumPy and scikit-learn."""

import dataclasses
import io
import math

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from sklearn import metrics

from gradnorm_optax import lab
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import division, sources
from gradnorm_optax.lab.objective import evidence, usual
from gradnorm_optax.lab.results import stats, summary
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import make_problem, problem

HERE = __name__


def cubic(outputs, y):
  """An own loss of numbers."""
  return abs(outputs[:, 0] - y) ** 3


def mean_of_all(outputs, y):
  """A mistake: one number for all examples."""
  return ((outputs[:, 0] - y) ** 2).mean()


def broadcast(outputs, y):
  """A common mistake: (B, 1) minus (B,)."""
  return (outputs - y) ** 2


def closeness(outputs, y):
  """An own score of numbers."""
  return -abs(outputs[:, 0] - y)


def wrong(outputs, y):
  """Another mistake: whole numbers have no gradient."""
  return (outputs[:, 0] > y).astype(int)


def lacking(outputs, y):
  return outputs.nothing


def outside(outputs, y):
  return np.asarray(outputs)[:, 0]


def nowhere(outputs, y):
  return outputs[:, 0] * np.nan


def logarithm(outputs, y):
  """No number where outputs are negative."""
  return -abs(jnp.log1p(outputs[:, 0]) - y)


def line():
  """A made-up regression: inputs and numbers around 100."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(300, 4))
  return x, 100 + 30 * x @ np.array([1., -2, 0, 1]) + 5 * rng.normal(size=300)


LINE = schema.Data(source='function', target=f'{HERE}:line', predict='number')


def test_classes():
  rng = np.random.default_rng(0)
  out, y = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(3, size=50)
  found = usual.classes(3, y)
  odds = np.exp(out.astype(np.float64))
  want = metrics.log_loss(y, odds / odds.sum(1, keepdims=True))
  assert float(found.losses(out, y).mean()) == pytest.approx(want, rel=1e-5)
  assert float(found.scores(out, y).mean()) == pytest.approx(
      metrics.accuracy_score(y, out.argmax(1)))
  share = np.bincount(y).max() / 50
  assert found.chance == share and found.worst == 0
  assert found.margin == pytest.approx(3 * np.sqrt(share * (1 - share) / 50))
  with pytest.raises(LabError, match=r'returns shape \(50, 2\).*\(50, 3\)'):
    found.losses(out[:, :2], y)


def test_tied_classes():
  """Guessing is worth one of the commonest; equal outputs answer the first."""
  y = np.array([0, 1, 1, 2, 2])
  found = usual.classes(3, y)
  assert found.chance == 0.4
  right = np.asarray(found.scores(np.zeros((5, 3), np.float32), y))
  np.testing.assert_array_equal(right, [1, 0, 0, 0, 0])
  # A net that never learned is therefore no better than guessing.
  assert not stats.trains([float(right.mean())], found.chance, found.margin)


def test_masked_positions_are_a_plain_mean_over_the_others():
  rng = np.random.default_rng(1)
  lengths = np.array([5, 1, 3], np.int32)
  out = rng.normal(size=(3, 5, 4)).astype(np.float32)
  y = rng.integers(4, size=(3, 5))
  found = usual.classes(4, y, lengths, positions=True)
  inside = np.arange(5) < lengths[:, None]
  plain = usual.classes(4, y[inside])
  assert int(found.count(y, lengths)) == 9 and found.chance == plain.chance
  for name in ('losses', 'scores'):
    got = getattr(found, name)(out, y, lengths)
    want = getattr(plain, name)(out[inside], y[inside])
    np.testing.assert_allclose(np.asarray(got)[inside], want, rtol=1e-5)
    assert not np.asarray(got)[~inside].any()
  y[~inside], out[~inside] = 99, np.nan  # whatever stands there
  assert np.isfinite(found.losses(out, y, lengths)).all()
  rows = evidence.of(found, out, y, lengths, None)
  np.testing.assert_array_equal(rows[:, 1], lengths)
  np.testing.assert_array_equal(
      rows[:, 0], found.scores(out, y, lengths).sum(1))
  assert math.isnan(evidence.mean(np.zeros((2, 2))))


def test_a_loss_that_padding_would_spoil():
  """The gradient of log(y) at a padded 0 would be infinity times 0."""
  y = np.array([[1., 2, 3], [4, 0, 0]], np.float32)
  lengths = np.array([3, 1], np.int32)
  found = dataclasses.replace(
      usual.numbers(y, lengths, positions=True),
      each=lambda out, y: (out[..., 0] - jnp.log(y)) ** 2)
  out = np.ones((2, 3, 1), np.float32)
  gradient = jax.grad(lambda out: found.losses(out, y, lengths).sum())(out)
  want = np.where(y > 0, 2 * (1 - np.log(np.maximum(y, 1))), 0)
  np.testing.assert_allclose(gradient[..., 0], want, rtol=1e-6)


@pytest.mark.parametrize('shape, positions', [
    ((60,), False), ((60, 3), False), ((12, 5), True), ((12, 5, 2), True)])
def test_variance_explained(shape, positions):
  rng = np.random.default_rng(2)
  y = rng.normal(1, 2, size=shape).astype(np.float32)
  out = y + rng.normal(size=shape).astype(np.float32)
  found = usual.numbers(y, None, positions)
  outputs = out[..., None] if y.ndim == 1 + positions else out
  spread = found.spread(y, None)
  flat = (-1, shape[-1] if y.ndim > 1 + positions else 1)
  assert float(found.scores(outputs, y, None, spread).mean()) == pytest.approx(
      metrics.r2_score(y.reshape(flat), out.reshape(flat)), rel=1e-4)
  assert float(found.losses(outputs, y).mean()) == pytest.approx(
      metrics.mean_squared_error(y.ravel(), out.ravel()), rel=1e-4)
  assert found.chance == 0 and found.worst == -1
  with pytest.raises(LabError, match='it must be'):
    found.losses(np.zeros((*shape, 7), np.float32), y)


def test_padding_has_no_part_in_the_variance():
  rng = np.random.default_rng(3)
  y = rng.normal(size=(4, 6)).astype(np.float32)
  lengths = np.array([6, 2, 3, 1], np.int32)
  inside = np.arange(6) < lengths[:, None]
  found = usual.numbers(y, lengths, positions=True)
  spread = found.spread(y, found.mask(y, lengths))
  assert float(spread) == pytest.approx(y[inside].var(), rel=1e-5)
  assert found.margin == 0.5  # 9 / 12 numbers, but no more than half


def test_errors_of_numbers():
  y = np.array([0., 1, 2], np.float32)
  out = np.array([[0.5], [3], [2]], np.float32)
  want = {'squared_error': [.25, 4, 0], 'absolute_error': [.5, 2, 0],
          'huber': [.125, 1.5, 0]}
  for name, values in want.items():
    np.testing.assert_allclose(
        usual.numbers(y, loss=name).losses(out, y), values)


def test_knowing_nothing_stays_below_the_margin():
  # The best multiple of numbers that have nothing to do with the labels.
  rng = np.random.default_rng(4)
  for count in (30, 300):
    y, guess = rng.normal(size=(2, 4000, count))
    y -= y.mean(1, keepdims=True)
    guess -= guess.mean(1, keepdims=True)
    explained = (y * guess).sum(1) ** 2 / (
        (y ** 2).sum(1) * (guess ** 2).sum(1))
    margin = usual.numbers(y[0]).margin
    assert margin == 9 / count and (explained > margin).mean() < 0.006
  assert not stats.trains([-3.0, 0.02], 0.0, 9 / 300)
  assert stats.trains([-3.0, 0.04], 0.0, 9 / 300)


def test_numbers_are_standardized_by_the_training_part():
  found = sources.load(LINE)
  x, y = line()
  rows = division.divide(np.zeros(300, np.int32), LINE)
  want = (y - y[rows[0]].mean()) / y[rows[0]].std()
  for part, at in zip(found[:3], rows, strict=True):
    np.testing.assert_allclose(part.y, want[at], atol=1e-5)
  assert found.outputs == 1 and found.train.y.dtype == np.float32
  assert found.deviation == pytest.approx(y[rows[2]].std(), rel=1e-5)
  assert sources.load(schema.Data(source='iris')).deviation is None
  assert 'is standardized' in found.description


def test_evaluation_of_numbers_in_parts(monkeypatch):
  found = sources.load(LINE)
  made = make_problem.join(schema.MLP(kind='mlp', depth=1, width=4), found)
  params, extra = made.init(0)
  monkeypatch.setattr(problem, 'EVALUATION_BATCH', 16)
  out = np.asarray(made.module.apply({'params': params}, found.validation.x))
  score = made.evaluate(params, extra, found.validation)
  assert float(score['score']) == pytest.approx(
      metrics.r2_score(found.validation.y, out[:, 0]), rel=1e-4)


@pytest.mark.parametrize('options, words', [
    ({'loss': f'{HERE}:mean_of_all'}, r'loss = .*mean_of_all" returned shape '
     r'\(\) for outputs \(210, 1\) and labels \(210,\); .* not their mean'),
    ({'loss': f'{HERE}:broadcast'},
     r'returned shape \(210, 210\) .* must be \(210,\)'),
    ({'loss': f'{HERE}:wrong'}, 'returned int32, which has no gradient'),
    ({'loss': f'{HERE}:lacking'}, r'raised AttributeError: .*nothing.* '
     r'\(test_objective\.py, line \d+\)'),
    ({'score': f'{HERE}:nowhere'}, 'is finite for no constant answer'),
    ({'loss': f'{HERE}:cubc'}, "has no 'cubc'.*'cubic'"),
    ({'loss': 'cross_entropy'}, 'needs classes; .* judged by R²'),
])
def test_losses_that_do_not_fit(options, words):
  with pytest.raises(LabError, match=words):
    found = sources.load(LINE, schema.Train(**options))
    found.objective.losses(np.zeros((210, 1), np.float32), found.train.y)


def test_a_loss_outside_of_jax():
  found = sources.load(LINE, schema.Train(loss=f'{HERE}:outside')).objective
  with pytest.raises(LabError, match='compute with jax.numpy'):
    jax.eval_shape(found.losses, jnp.zeros((5, 1)), jnp.zeros(5))


def test_a_score_that_is_not_defined_everywhere():
  found = sources.load(LINE, schema.Train(score=f'{HERE}:logarithm')).objective
  y = sources.load(LINE).validation.y
  assert found.chance == pytest.approx(-abs(y).mean(), rel=1e-5)


def test_loss_of_numbers_for_classes():
  with pytest.raises(LabError, match='needs numbers.*data.predict = "number"'):
    sources.load(schema.Data(source='iris'), schema.Train(loss='huber'))


def test_own_loss_and_score():
  found = sources.load(LINE, schema.Train(
      loss=f'{HERE}:cubic', score=f'{HERE}:closeness')).objective
  y = sources.load(LINE).validation.y
  out = np.zeros((len(y), 1), np.float32)
  np.testing.assert_allclose(found.losses(out, y), abs(y) ** 3, rtol=1e-5)
  np.testing.assert_allclose(found.scores(out, y), -abs(y), rtol=1e-5)
  # Guessing: the best constant answer; the worst: three deviations off.
  assert found.chance == pytest.approx(-abs(y).mean(), rel=1e-5)
  assert found.worst < found.chance - 1
  assert found.margin == pytest.approx(3 * abs(y).std() / np.sqrt(len(y)))
  assert found.measure.figure(-0.25) == '-0.25'


def test_scores_below_the_worst_count_as_the_worst():
  history = {'score': [-8.0, 0.5], 'loss': [9.0, 0.5], 'train_loss': [9., .5]}
  record = {'seed': 0, 'diverged': False, 'history': history,
            'test': {'score': -7.0, 'loss': 1.0}}
  run = summary.Run.of(record, 0.4, 10, worst=-1.0)
  assert run.curve == (-1.0, 0.5) and run.test_score == -1.0
  lost = summary.Run.of({**record, 'diverged': True}, worst=-1.0)
  assert lost.score == -1.0


def test_a_regression_from_data_to_report(tmp_path):
  done = lab.compare({
      'data': LINE.model_dump(exclude_none=True),
      'models': {'net': {'kind': 'mlp', 'depth': 1, 'width': 8}},
      'methods': {'adam': {'optimizer': 'adam'},
                  'bng': {'optimizer': 'adam', 'normalize': 'bng'}},
      'train': {'steps': 60, 'eval_every': 20, 'batch_size': 30},
      'compare': {'learning_rates': [0.01, 0.1, 1e30], 'tune_seeds': 1,
                  'seeds': 2, 'timing_rounds': 3, 'target': 0.8,
                  'look': 0}},
      out=tmp_path / 'run', quiet=True)
  from rich import console
  screen = console.Console(width=130, record=True, file=io.StringIO())
  screen.print(done.table())
  text = screen.export_text()
  assert 'test R² %' in text and '80% at step' in text
  assert 'guessing gives 0.0%' in text and 'variance' in text
  for row in done.summary.rows:
    assert row.trains and 0.8 < row.score.mean < 1
    assert row.sensitivity[-1].score == -1  # the rate that diverges
  assert 'points' in done.summary.verdicts[0].text
  assert "in the label's unit" in done.summary.verdicts[0].text
  page = (done.folder / 'report.html').read_text()
  assert 'test R² %' in page and 'accuracy' not in page
