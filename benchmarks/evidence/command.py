"""`python -m benchmarks evidence [NAME...]`: runs the studies, or one claim's.

    python -m benchmarks evidence --list          what there is, and how long
    python -m benchmarks evidence bng_depth       one study, resumed
    python -m benchmarks evidence --row bng-depth-12   what one claim needs

A configuration of configs/evidence is run by `gradnorm compare` into
runs/evidence/NAME, which goes on where it was stopped; what the page needs is
kept in benchmarks/results/evidence/NAME.json. The other studies write that file
themselves, trial by trial. Then `python -m benchmarks evidence_page`.
"""

import argparse
import importlib
import json
import math
import pathlib
from typing import Any

from benchmarks.evidence import (
  effects,
  keep,
  library_text,
  registry,
  results,
  verdicts,
)
from benchmarks.evidence.registry import Claim
from gradnorm_optax import lab
from gradnorm_optax.lab.support import files

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = ROOT / 'configs' / 'evidence'
STUDIES = pathlib.Path(__file__).parent / 'studies'
NO_STUDY = ('__init__', '__main__')


def main(arguments: list[str] | None = None) -> None:
  """Runs what is named; everything, if nothing is."""
  parser = argparse.ArgumentParser(
      prog='python -m benchmarks evidence', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('names', nargs='*', help='studies; none: all')
  parser.add_argument('--list', action='store_true')
  parser.add_argument('--row', help='the id of a claim')
  parser.add_argument('--runs', type=pathlib.Path, default=ROOT / 'runs' /
                      'evidence', help='the folder of the runs')
  parser.add_argument('--results', type=pathlib.Path, default=results.FOLDER)
  parser.add_argument('--keep-only', action='store_true',
                      help='run nothing; read finished folders of --runs')
  given = parser.parse_args(arguments)
  if given.list:
    print(listing(results.read(given.results)))
  elif given.row:
    print(row(given.row, given.runs / 'rows'))
  else:
    for name in given.names or known():
      run(name, given.runs, given.results, given.keep_only)


def known() -> list[str]:
  """All studies by name: configurations, and modules of `studies/`."""
  found = {path.stem for path in CONFIGS.glob('*.toml')} | own()
  return sorted(found)


def own() -> set[str]:
  """The studies that are no configuration: modules with a `run`."""
  return {path.stem for path in STUDIES.glob('*.py')
          if path.stem not in NO_STUDY and 'def run(out' in path.read_text()}


def run(name: str, runs: pathlib.Path, kept: pathlib.Path,
        keep_only: bool = False) -> None:
  """Runs one study, or what is missing of it, and keeps what the page needs.

  Raises:
    SystemExit: There is none of that name.
  """
  if name not in known():
    raise SystemExit(f'no study {name!r}; there are {", ".join(known())}')
  path = kept / f'{name}.json'
  if name in own():
    if not keep_only:
      importlib.import_module(f'benchmarks.evidence.studies.{name}').run(path)
    return
  if not keep_only:
    _prepare(name)
    print(lab.compare(CONFIGS / f'{name}.toml', out=runs / name).written())
  write(path, keep.study(runs / name))


def write(path: pathlib.Path, found: dict[str, Any]) -> None:
  """Writes a study's file, one row or difference to a line."""
  path.parent.mkdir(parents=True, exist_ok=True)
  parts = []
  for key, value in found.items():
    if key in ('rows', 'differences'):
      lines = ',\n'.join(f'  {json.dumps(name)}: {_json(one)}'
                         for name, one in value.items())
      parts.append(f' "{key}": {{\n{lines}\n }}')
    else:
      parts.append(f' {json.dumps(key)}: {_json(value)}')
  files.write(path, '{\n' + ',\n'.join(parts) + '\n}\n')
  print(f'written: {path}')


def _json(value: Any) -> str:
  return json.dumps(value, allow_nan=False)


def _prepare(name: str) -> None:
  """Writes the text that the language model's study reads."""
  if name == 'lm':
    library_text.write(ROOT / 'runs' / 'evidence' / 'python_library.txt')


def listing(studies: dict[str, results.Study]) -> str:
  """Every study: how long it takes, and which claims rest on it."""
  lines = []
  for name in known():
    study = studies.get(name)
    took = 'not run' if study is None else time_of(study.minutes)
    claims = [claim.id for claim in registry.read() if claim.study == name]
    lines.append(f'{name:18} {took:>10}  {" ".join(claims)}')
  return '\n'.join(lines)


def time_of(minutes: float) -> str:
  """A duration on two cores; '?' where nobody wrote it down."""
  return '?' if math.isnan(minutes) else f'{max(1, round(minutes))} min'


def row(name: str, runs: pathlib.Path) -> str:
  """Runs what one claim compares, searched anew, and judges it.

  Raises:
    SystemExit: There is no such claim.
  """
  claims = {claim.id: claim for claim in registry.read()}
  if name not in claims:
    raise SystemExit(f'no claim {name!r}; there are {", ".join(claims)}')
  claim = claims[name]
  if claim.study in own():
    run(claim.study, runs, runs)
    study = results.parse(claim.study, json.loads(
        (runs / f'{claim.study}.json').read_text()))
  else:
    _prepare(claim.study)
    config = lab.load(CONFIGS / f'{claim.study}.toml')
    lab.compare(part(config, claim), out=runs / name)
    study = results.parse(claim.study, json.loads(json.dumps(
        keep.study(runs / name))))
  found = verdicts.judge(claim, study)
  return (f'{claim.method} {claim.words}: {found.kind}'
          + (f', {told(found.effect)}' if found.effect else '')
          + (f' ({found.why})' if found.why else ''))


def part(config: Any, claim: Claim) -> Any:
  """The models and methods of a configuration that a claim compares.

  Grids may widen for other methods' sake: then they are wider in the whole.
  """
  named = [name for side in (claim.treated, claim.against)
           for name in ((side,) if isinstance(side, str) else side)]
  if claim.against == 'best baseline':
    return config
  models, methods = (list(dict.fromkeys(
      name.split('/')[place] for name in named)) for place in (0, 1))
  kept = {method: config.methods[method] for method in methods}
  base = config.compare.baseline
  return config.model_copy(update={
      'models': {model: config.models[model] for model in models},
      'methods': kept, 'compare': config.compare.model_copy(update={
          'baseline': base if base in kept else None})})


def told(effect: effects.Effect) -> str:
  """An effect in words: mean, interval and unit."""
  mean, low, high = effect.interval
  return (f'{_signed(mean)} [{_signed(low)}, {_signed(high)}] '
          f'{effect.unit}').rstrip()


def _signed(value: float) -> str:
  """Three digits or one decimal, whichever is shorter; no minus zero."""
  text = f'{value:+.1f}' if abs(value) >= 1 else f'{value:+.2f}'
  return text.replace('-0.00', '+0.00') if float(text) == 0 else text
