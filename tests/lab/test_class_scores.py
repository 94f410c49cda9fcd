"""Scores of classes, what guessing gives of them, and the weighted loss."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from sklearn import metrics, utils

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.objective import class_options, guessing, usual
from gradnorm_optax.lab.objective.class_scores import CLASS_SCORES
from gradnorm_optax.lab.results import stats
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import (
  make_problem,
  problem,
  step_gradient,
)

HERE = __name__
RNG = np.random.default_rng(0)


def drawn(classes, count=300, seed=0):
  """Uneven labels and outputs that know them a little, many of them equal."""
  rng = np.random.default_rng(seed)
  shares = 1 / np.arange(1, classes + 1) ** 2
  y = rng.choice(classes, count, p=shares / shares.sum())
  rows = rng.normal(size=(40, classes))
  tried = rng.integers(40, size=(2, count))
  return y, np.where((rows[tried[0], y] > rows[tried[1], y])[:, None],
                     rows[tried[0]], rows[tried[1]])


def by_definition(name, y, out, positive):
  """scikit-learn's on probabilities, one class after the other."""
  odds = np.exp(out) / np.exp(out).sum(1, keepdims=True)
  found = out.argmax(1)
  if name == 'balanced_accuracy':
    return metrics.balanced_accuracy_score(y, found)
  if name == 'f1':
    return metrics.f1_score(y == positive, found == positive) if (
        positive is not None) else metrics.f1_score(y, found, average='macro')
  figure = {'auc': metrics.roc_auc_score,
            'average_precision': metrics.average_precision_score}[name]
  asked = [positive] if positive is not None else range(out.shape[1])
  return np.mean([figure(y == c, odds[:, c]) for c in asked])


@functools.partial(jax.jit, static_argnums=(0, 4))
def traced(name, y, out, held, positive):
  """As it is computed during training."""
  return CLASS_SCORES[name].figure(jnp, y, out, held, positive)


def afterwards(name, y, out, held, positive):
  """As it is computed of a run's answers."""
  return CLASS_SCORES[name].figure(np, y, out, held, positive)


@pytest.mark.parametrize('name', CLASS_SCORES)
@pytest.mark.parametrize('classes, positive', [(2, 0), (2, 1), (4, None)])
def test_scores_are_those_of_scikit_learn(name, classes, positive):
  y, out = drawn(classes)
  want = by_definition(name, y, out, positive)
  assert 0.05 < want < 0.95
  narrow, held = out.astype(np.float32), np.ones(300, np.float32)
  for figure in (traced, afterwards):
    assert float(figure(name, y, narrow, held, positive)) == pytest.approx(
        want, rel=1e-5)
  held[::3] = 0  # what is not held is not there
  part = held > 0
  want = by_definition(name, y[part], out[part], positive)
  for figure in (traced, afterwards):
    assert float(figure(name, y, narrow, held, positive)) == pytest.approx(
        want, rel=1e-5)


@pytest.mark.parametrize('figure', [traced, afterwards])
def test_one_class_alone_has_no_order(figure):
  y, out = np.zeros(5, int), RNG.normal(size=(5, 3)).astype(np.float32)
  for name in ('auc', 'average_precision'):
    assert float(figure(name, y, out, np.ones(5, np.float32), None)) == 0


@pytest.mark.parametrize('name', CLASS_SCORES)
@pytest.mark.parametrize('counts, positive', [
    ((22, 428), 0), ((50, 50), 1), ((200, 60, 12, 8), None)])
def test_guessing_stays_below_the_margin(name, counts, positive):
  """Answers that know nothing, however often each class is answered."""
  counts, rng = np.array(counts), np.random.default_rng(1)
  score = CLASS_SCORES[name]
  chance, margin = score.guess(counts, positive)
  y = jnp.asarray(np.repeat(np.arange(len(counts)), counts))
  none = [0.] * (len(counts) - 1)
  biases = np.array([[0., *none], np.log(counts), -np.log(counts), [9., *none],
                     [*none, 9.]])
  outputs = rng.normal(size=(5, 100, len(y), len(counts)))
  outputs = (outputs + biases[:, None, None]).astype(np.float32)
  found = np.asarray(jax.jit(jax.vmap(jax.vmap(lambda out: score.figure(
      jnp, y, out, jnp.ones(len(y)), positive))))(outputs))
  assert chance <= np.max(np.mean(found, 1)) + 0.02
  assert (found > chance + margin).mean(1).max() <= 0.02
  assert chance + margin < (0.8 if name != 'average_precision' else 0.7)


def test_what_guessing_gives():
  counts = np.array([5, 95])
  assert guessing.balanced_accuracy(counts)[0] == 0.5
  assert guessing.auc(counts)[0] == 0.5
  assert guessing.average_precision(counts, 0)[0] == 0.05
  assert guessing.f1(counts, 0)[0] == pytest.approx(metrics.f1_score(
      np.repeat([1, 0], counts), np.ones(100)))
  assert guessing.f1(np.full(4, 25))[0] == 0.25
  large = guessing.average_precision(np.array([2000, 198000]), 0)
  assert large[0] == 0.01 and large[1] < 0.01


def rare():
  """5 of 100 are defects, ranked with an AUC of about .9."""
  rng = np.random.default_rng(2)
  y = np.where(np.arange(3000) % 20 == 0, 'defect', 'ok')
  x = rng.normal(size=(3000, 3))
  x[:, 0] += 1.9 * (y == 'defect')
  return x, y


RARE = schema.Data(source='function', target=f'{HERE}:rare')


def load(**keys):
  return sources.load(RARE, schema.Train(**keys))


def test_rare_defects_read_as_training():
  """Accuracy says of a useful ranking that it is no better than guessing."""
  part = load().validation
  out = np.stack([part.x[:, 0], np.full(len(part.y), 2.5)], 1)
  out = out.astype(np.float32)
  auc = metrics.roc_auc_score(part.y == 0, out[:, 0])
  assert 0.8 < auc < 0.97
  said = {}
  for name in ('accuracy', *CLASS_SCORES):
    found = load(score=name).objective
    score = float(found.whole_score(out, part.y) if found.rule.name == name else
                  found.scores(out, part.y).mean())
    said[name] = stats.trains([score], found.chance, found.margin)
  assert not said['accuracy'] and said['auc'] and said['average_precision']


def test_uneven_classes_are_not_judged_by_accuracy():
  found = load()
  assert found.objective.measure.name == 'balanced accuracy'
  assert found.objective.chance == 0.5 and found.objective.margin > 0.1
  assert 'judged by balanced accuracy, for the classes are uneven (train.' in (
      found.description)
  assert load(score='accuracy').objective.measure.name == 'accuracy'
  even = sources.load(schema.Data(source='iris'))
  assert even.objective.measure.name == 'accuracy'
  assert 'judged' not in even.description


def test_the_positive_class():
  assert 'found' in load().objective.measure.meaning
  found = load(score='f1').objective
  assert found.rule.positive == 0  # the rarer one
  assert found.measure.meaning.endswith("of 'defect'")
  assert load(score='f1', positive='ok').objective.rule.positive == 1
  named = load(score='auc', positive='ok').objective.measure.meaning
  assert "one of 'ok' is ranked above" in named
  several = sources.load(schema.Data(source='iris'), schema.Train(score='f1'))
  assert several.objective.rule.positive is None
  assert 'averaged over the classes' in several.objective.measure.meaning
  assert schema.Train(score='f1', positive=1).positive == '1'


@pytest.mark.parametrize('source, keys, words', [
    ('rare', {'positive': 'ok'}, 'positive is for score = "f1", "auc" or "av'),
    ('rare', {'positive': 'defct', 'score': 'f1'},
     "positive: no class is called 'defct'.*'def"),
    ('iris', {'positive': '1', 'score': 'f1'},
     'positive is for two classes, and there are 3'),
    ('rare', {'class_weight': {'defects': 2}}, "called 'defects'.*'defect'"),
    ('diabetes', {'class_weight': 'balanced'}, 'class_weight is for classes'),
    ('diabetes', {'score': 'auc'}, 'score = "auc" needs classes; these labels '
     'are judged by R²'),
    ('diabetes', {'positive': '1'}, 'positive is for classes'),
])
def test_options_that_do_not_fit(source, keys, words):
  data = RARE if source == 'rare' else schema.Data(source=source)
  with pytest.raises(LabError, match=words):
    sources.load(data, schema.Train(**keys))


@pytest.mark.parametrize('name', ['f1', 'auc', 'average_precision'])
def test_a_part_that_lacks_a_class(name):
  found = load(score=name).objective
  with pytest.raises(LabError, match="the test part has no example of 'defect'"
                     ', which .* looks for; divide otherwise'):
    class_options.check_part(found, 'test', np.ones(9, int))
  several = sources.load(schema.Data(source='iris'), schema.Train(
      score='balanced_accuracy')).objective
  class_options.check_part(several, 'test', np.array([0, 2]))
  with pytest.raises(LabError, match='has one class alone, and .* compares'):
    class_options.check_part(several, 'test', np.ones(9, int))


@pytest.mark.parametrize('keys, words', [
    ({'score': 'acu'}, "unknown score 'acu'.*'auc'"),
    ({'class_weight': {'a': 0}}, 'class_weight'),
    ({'class_weight': 'even'}, 'class_weight')])
def test_options_that_mean_nothing(keys, words):
  from gradnorm_optax import lab
  with pytest.raises(LabError, match=words):
    lab.load({'models': {'m': {'kind': 'mlp'}},
              'methods': {'a': {'optimizer': 'adam'}}, 'train': keys})


def test_evaluation_in_parts(monkeypatch):
  """A score of all outputs of the part, not of its batches; also vmapped."""
  found = load(score='auc')
  made = make_problem.join(schema.MLP(kind='mlp', depth=1, width=4), found)
  params, extra = jax.vmap(made.init)(jnp.arange(2))
  monkeypatch.setattr(problem, 'EVALUATION_BATCH', 32)
  got = jax.jit(jax.vmap(made.evaluate, (0, 0, None)))(
      params, extra, found.validation)
  for i in range(2):
    one = jax.tree.map(lambda a: a[i], params)  # noqa: B023
    out = made.module.apply({'params': one}, found.validation.x)
    assert float(got['score'][i]) == pytest.approx(metrics.roc_auc_score(
        found.validation.y == 0, out[:, 0] - out[:, 1]), rel=1e-5)


@pytest.mark.parametrize('weights', ['balanced', {'defect': 7, 'ok': 0.5}])
def test_weighted_losses(weights):
  """scikit-learn's weights and mean; one label's share is its class's."""
  found = load(class_weight=weights)
  part, objective = found.train, found.objective
  out = RNG.normal(size=(len(part.y), 2)).astype(np.float32)
  if weights == 'balanced':
    each = utils.class_weight.compute_class_weight(
        'balanced', classes=np.arange(2), y=part.y)
  else:
    each = np.array([7, 0.5])
  plain = np.asarray(usual.classes(2, part.y).losses(out, part.y), np.float64)
  want = (each[part.y] * plain).sum() / each[part.y].sum()
  got = objective.losses(out, part.y).sum() / objective.weight(part.y, None)
  assert float(got) == pytest.approx(want, rel=1e-5)
  # On the average of the training part a label counts 1.
  assert float(objective.weight(part.y, None)) == pytest.approx(len(part.y))
  assert float(objective.count(part.y, None)) == len(part.y)


def test_parts_of_a_batch_weigh_as_their_labels():
  """A batch taken in parts has the gradient of the whole."""
  made = make_problem.join(schema.MLP(kind='mlp', depth=1, width=4),
                           load(class_weight={'defect': 9}))
  batch = jax.tree.map(lambda a: a[:40], made.dataset.train)
  assert 0 < (batch.y == 0).sum() < 5  # unevenly over the parts
  params, extra = made.init(0)
  take = jax.jit(functools.partial(step_gradient._plain, made),
                 static_argnums=3)
  loss, _, gradient = take(params, extra, batch, 1)
  parts, _, same = take(params, extra, batch, 4)
  assert float(parts) == pytest.approx(float(loss), rel=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-6), same, gradient)


def test_weights_of_positions():
  y = np.array([[0, 1, -1], [1, 0, 0]], np.int32)
  lengths = np.array([3, 1], np.int32)
  found = dataclasses.replace(
      usual.classes(2, y, lengths, positions=True, holes=True),
      class_weights=(3., 1.))
  out = RNG.normal(size=(2, 3, 2)).astype(np.float32)
  plain = usual.classes(2, np.array([0, 1, 1]))
  want = plain.losses(np.stack([out[0, 0], out[0, 1], out[1, 0]]),
                      np.array([0, 1, 1])) * np.array([3., 1, 1])
  assert float(found.weight(y, lengths)) == 5
  assert float(found.losses(out, y, lengths).sum()) == pytest.approx(
      float(want.sum()), rel=1e-5)
  # By example: the mean over the labels that there are.
  whole = np.array([[0, 1, -1], [1, 0, 0]], np.int32)
  each = found.losses(out, whole)
  np.testing.assert_allclose(
      found.by_example(out, whole), each.sum(1) / np.array([2, 3]), rtol=1e-6)
