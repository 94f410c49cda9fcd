"""Balanced and unbalanced starts of a ReLU net: who notices the difference?

Two hidden ReLU layers on scikit-learn's digits. The unbalanced start computes
the same function: random units have their incoming weights multiplied by 10·c,
c log-normal, and their outgoing weights divided by it. Every method searches
the same number of learning rates, for each start by itself; the same batches
in the same order everywhere. A trial of the mechanism on one seed, not a claim.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from jax import lax
from sklearn import datasets

import gradnorm_optax as gn
from gradnorm_optax import paths

matplotlib.use('Agg')
HERE = pathlib.Path(__file__).parent
WIDTH, BATCH, STEPS = 256, 100, 400
RATES = tuple(10.0**k for k in np.arange(-4, 1.6, 0.5))
PATH_RATES = tuple(10.0**k for k in np.arange(-3, 2.6, 0.5))
X = jax.ShapeDtypeStruct((1, 64), jnp.float32)


def net(layers: Any, x: jax.Array) -> jax.Array:
  """The network."""
  for layer in layers[:-1]:
    x = jax.nn.relu(x @ layer['kernel'] + layer['bias'])
  return x @ layers[-1]['kernel'] + layers[-1]['bias']


METHODS = {
    'sgd': (optax.sgd, RATES),
    'momentum': (lambda lr: optax.sgd(lr, 0.9), RATES),
    'adagrad': (optax.adagrad, RATES),
    'adam': (optax.adam, RATES),
    'path_sgd': (lambda lr: gn.path_sgd(lr, net, X), PATH_RATES),
    'path_sgd + momentum': (
        lambda lr: gn.path_sgd(lr, net, X, momentum=0.9), PATH_RATES),
    'path_sgd, adagrad': (
        lambda lr: optax.chain(
            gn.normalize_by_path_scale(net, X),
            optax.scale_by_rss(),
            optax.scale_by_learning_rate(lr)),
        RATES),
}


def starts() -> dict[str, Any]:
  """Returns the balanced start, N(0, 1/fan_in), and the unbalanced one."""
  sizes = (64, WIDTH, WIDTH, 10)
  keys = jax.random.split(jax.random.key(0), 4)
  balanced = [
      {'kernel': jax.random.normal(key, (a, b)) / a**0.5, 'bias': jnp.zeros(b)}
      for key, a, b in zip(keys, sizes[:-1], sizes[1:])
  ]
  return {
      'balanced': balanced,
      'unbalanced': paths.unbalance(balanced, keys[3]),
  }


def run(method: Any, xs: Any, ys: Any, test: Any) -> Any:
  """Returns a jitted trial: (start, rate) -> (curve, test accuracy)."""

  def loss(w: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(
        net(w, x), y).mean()

  @jax.jit
  def trial(start: Any, rate: jax.Array) -> Any:
    tx = method(rate)

    def step(carry: Any, batch: Any) -> Any:
      w, state = carry
      value, grads = jax.value_and_grad(loss)(w, *batch)
      updates, state = tx.update(grads, state, w)
      return (optax.apply_updates(w, updates), state), value

    (w, _), curve = lax.scan(step, (start, tx.init(start)), (xs, ys))
    right = (net(w, test[0]).argmax(-1) == test[1]).mean()
    return curve, right

  return trial


def quality(curve: np.ndarray) -> float:
  """Mean loss over the last 40 steps; infinite where it diverged."""
  end = float(np.mean(curve[-40:]))
  return end if np.isfinite(curve).all() else float('inf')


def main() -> None:
  """Runs all trials, prints the table, writes JSON and the figure."""
  digits = datasets.load_digits()
  order = np.random.default_rng(0).permutation(len(digits.target))
  x = (digits.data[order] / 16).astype('float32')
  y = digits.target[order].astype('int32')
  train, test = (x[:1400], y[:1400]), (x[1400:], y[1400:])
  picks = np.random.default_rng(1).integers(0, 1400, size=(STEPS, BATCH))
  xs, ys = train[0][picks], train[1][picks]
  begins = starts()
  results, curves = {}, {}
  print(
      f'{"method":20} {"balanced: rate  loss  test":>28} '
      f'{"unbalanced: rate  loss  test":>30} {"same rate":>10}')
  for name, (method, rates) in METHODS.items():
    trial = run(method, xs, ys, test)
    row: dict[str, Any] = {}
    found = {}
    for start, begin in begins.items():
      done = [
          tuple(map(np.asarray, trial(begin, jnp.float32(r)))) for r in rates]
      found[start] = done
      best = int(np.argmin([quality(curve) for curve, _ in done]))
      row[start] = {
          'rate': rates[best],
          'loss': quality(done[best][0]),
          'test_accuracy': float(done[best][1]),
          'edge_of_grid': best in (0, len(rates) - 1),
      }
      row.setdefault('best', best)
    best = row.pop('best')  # the rate that is best from the balanced start
    one, two = (found[start][best][0] for start in begins)
    curves[name] = (one, two)
    row['largest_difference_at_one_rate'] = float(np.max(np.abs(one - two)))
    results[name] = row
    cells = [
        f'{r["rate"]:8.1e} {r["loss"]:8.2e} {r["test_accuracy"]:6.1%}'
        for r in (row['balanced'], row['unbalanced'])]
    print(
        f'{name:20} {cells[0]:>28} {cells[1]:>30} '
        f'{row["largest_difference_at_one_rate"]:10.1e}')
  folder = HERE / 'results'
  folder.mkdir(exist_ok=True)
  text = json.dumps({'jax': jax.__version__, 'results': results}, indent=2)
  (folder / 'path_unbalanced.json').write_text(text + '\n')
  draw(curves, folder / 'path_unbalanced.png')


def draw(curves: dict[str, Any], path: pathlib.Path) -> None:
  """Draws the training loss of both starts at one rate, method by method."""
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(
      1, len(curves), figsize=(2.4 * len(curves), 2.4), sharey=True)
  for axis, (name, pair) in zip(axes, curves.items()):
    for curve, style, label in zip(
        pair, ('-', '--'), ('balanced', 'unbalanced')):
      axis.semilogy(np.clip(curve, 1e-5, 1e3), style, label=label)
    axis.set_title(name, fontsize=8)
  axes[0].legend(fontsize=6)
  figure.tight_layout()
  figure.savefig(path, dpi=110)


if __name__ == '__main__':
  main()
