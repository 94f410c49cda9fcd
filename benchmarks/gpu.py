"""One prepared run for an accelerator that is lent for minutes.

Runs the tests marked `gpu`, then steps of 12 M, 100 M and 1 B parameters: time,
share of the bandwidth that a copy on the same device reaches, kernels, the same
without the conditional, trials under `vmap` against one after another. What is
known is written after each part and each chain, so that a run that is cut off
leaves it.
"""

import argparse
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks import common, overhead
from gradnorm_optax.lab.support import files, json_safe, provenance

CHAINS = ('adamw', 'bng + adamw', 'floor: norms + adamw', 'standardize + adamw',
          'floor: means, norms + adamw', 'sing', 'weight_normalized(adamw)')
# Width and depth of the MLPs; the largest needs 16 GB for a chain.
SIZES = {'12M': (1024, 12), '100M': (2896, 12), '1B': (9159, 12)}
TINY = {'tiny': (16, 2)}
TESTS = pathlib.Path(__file__).parents[1] / 'tests'


def bandwidth(megabytes: float) -> float:
  """Returns bytes a second, read and written, of a copy on the device."""
  x = jnp.ones(int(megabytes * 2**18), jnp.float32)
  copy = jax.jit(lambda x: x + 1)
  seconds = _seconds(lambda: copy(x), 20)
  return 2 * x.nbytes / seconds


def steps(
    shapes: overhead.Shapes, copied: float, rows: dict[str, Any],
    go_on: Callable[[], bool],
) -> None:
  """Measures each chain on a tree, one in memory at a time.

  Args:
    shapes: The tree.
    copied: Bytes a second of a copy.
    rows: Where each chain's figures go.
    go_on: Called after each; tells whether there is time for another.
  """
  size = sum(int(np.prod(shape)) for shape in shapes.values())
  for name in CHAINS:
    make = lambda shape: jnp.full(shape, 1e-3)  # noqa: E731
    params, grads = overhead.tree(shapes, make), overhead.tree(shapes, make)
    tx = overhead.chains({})[name]
    state = tx.init(params)
    compiled = jax.jit(common.step_of(tx), donate_argnums=(0, 1)).lower(
        params, state, grads).compile()
    held = [params, state]
    del params, state

    def run(held=held, compiled=compiled, grads=grads):
      held[:] = compiled(*held, grads)
      return held

    seconds = _seconds(run, 20)
    rows[name] = {
        'milliseconds': seconds * 1e3,
        'kernels': kernels(compiled.as_text() or ''),
        # An unavoidable word each: p, m, v both ways, and g.
        'share of the copy': 7 * 4 * size / seconds / copied,
        'over adamw': seconds / (
            rows['adamw']['milliseconds'] / 1e3 if rows else seconds)}
    held.clear()
    if not go_on():
      return


def kernels(text: str) -> int:
  """Counts what is launched from the main computation of a program."""
  main = text[text.index('\nENTRY'):]
  return len(re.findall(
      r' (?:fusion|custom-call|conditional|copy|reduce|sort|dot)\(', main))


def trials(count: int, shapes: overhead.Shapes) -> dict[str, float]:
  """Compares steps of many small trees, under `vmap` and in turn."""
  tx = overhead.chains({})['standardize + adamw']
  one = overhead.tree(shapes, lambda shape: jnp.full(shape, 1e-3))
  many = jax.tree.map(lambda x: jnp.stack([x] * count), one)
  step = common.step_of(tx)
  single, together = jax.jit(step), jax.jit(jax.vmap(step))
  state, states = tx.init(one), jax.vmap(tx.init)(many)
  return {
      'in turn, ms': 1e3 * _seconds(
          lambda: [single(one, state, one) for _ in range(count)], 5),
      'vmap, ms': 1e3 * _seconds(lambda: together(many, states, many), 5)}


def tests(seconds: float) -> dict[str, Any]:
  """Runs the tests marked `gpu` on this platform.

  Only their files are collected: the others need what a lent machine may lack.
  """
  marked = [str(path) for path in sorted(TESTS.rglob('test_*.py'))
            if '@pytest.mark.gpu' in path.read_text()]
  command = [sys.executable, '-m', 'pytest', '-m', 'gpu', '-n', '0', '-q',
             *marked]
  environment = os.environ | {
      'JAX_PLATFORMS': jax.default_backend().replace('gpu', 'cuda,cpu'),
      'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  try:
    done = subprocess.run(
        command, env=environment, timeout=seconds, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, cwd=TESTS.parent)
  except subprocess.TimeoutExpired as error:
    said = (error.stdout or b'').decode(errors='replace')
    return {'passed': False, 'tail': f'not done in {seconds:.0f} s: '
            + said[-2000:]}
  return {'passed': done.returncode == 0,
          'tail': done.stdout.decode(errors='replace')[-2000:]}


def _seconds(run: Callable[[], Any], calls: int) -> float:
  """Returns the median time of a call, after two."""
  times = []
  for _ in range(calls + 2):
    start = time.perf_counter()
    jax.block_until_ready(run())
    times.append(time.perf_counter() - start)
  return float(np.median(times[2:]))


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--tiny', action='store_true', help='to see that it runs')
  parser.add_argument('--minutes', type=float, default=7.5)
  parser.add_argument('--out', type=pathlib.Path,
                      default=common.RESULTS / 'gpu.json')
  options = parser.parse_args(arguments)
  end = time.monotonic() + 60 * options.minutes
  found: dict[str, Any] = {
      'machine': provenance.machine(), 'versions': provenance.versions(),
      'revision': provenance.revision(), 'date': time.strftime('%Y-%m-%d')}

  def keep() -> bool:
    files.write(options.out, json.dumps(
        json_safe.plain(found), indent=1, default=float) + '\n')
    return time.monotonic() < end

  def sizes(name: str, width: int, depth: int) -> dict[str, Any]:
    rows = found[name] = {}
    steps(overhead.mlp(width, depth), found['copy, bytes a second'], rows, keep)
    return rows

  small = overhead.mlp(16, 2) if options.tiny else overhead.mlp(256, 4)
  parts: dict[str, Callable[[], Any]] = {
      'copy, bytes a second': lambda: bandwidth(1 if options.tiny else 1024)}
  if not options.tiny:  # the tests run the tiny form
    parts['tests'] = lambda: tests(min(200, end - time.monotonic()))
  for name, (width, depth) in (TINY if options.tiny else SIZES).items():
    parts[name] = functools.partial(sizes, name, width, depth)
  parts['trials'] = lambda: trials(2 if options.tiny else 32, small)
  for name, part in parts.items():
    if not keep():
      found[name] = 'no time left'
      continue
    try:
      found[name] = part()
    except Exception as error:  # out of memory, say: go on with the rest
      why = f'{type(error).__name__}: {str(error)[:300]}'
      found[name] = {**found.get(name, {}), 'error': why}
    print(name, json.dumps(found[name], indent=1, default=float), flush=True)
  keep()


if __name__ == '__main__':
  main()
