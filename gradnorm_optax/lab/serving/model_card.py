"""What a model is, for whoever has to answer for it."""

import datetime
from collections.abc import Sequence
from typing import Any

import tomli_w

from gradnorm_optax.lab.reporting.units import duration, size
from gradnorm_optax.lab.results.costs import Pass
from gradnorm_optax.lab.run.compiled_run import named
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.serving.loaded_run import LoadedRun
from gradnorm_optax.lab.support import provenance


def text(run: LoadedRun, results: dict[str, Any] | None, digest: str,
         passes: Sequence[Pass], rows: Sequence[dict[str, Any]]) -> str:
  """The card of an exported model, in Markdown.

  Args:
    run: The model.
    results: results.json of its run; None where that is not finished.
    digest: Of its data.
    passes: What forward passes cost on this machine.
    rows: The figures of its run, as in metrics.jsonl.
  """
  config, fitted = run.config, run.data.preprocessing
  method = named(config.methods, config.run.method, 'run.method')
  model = named(config.models, config.run.model, 'run.model')
  tables = tomli_w.dumps(toml.plain({
      'models': {model: config.models[model].model_dump(mode='json')},
      'methods': {method: config.methods[method].model_dump(mode='json')},
      'train': config.train.model_dump(mode='json'),
      'run': config.run.model_dump(mode='json'),
      'data': config.data.model_dump(mode='json')}))
  lines = [
      f'# {config.title or config.name}: {model} trained with {method}', '',
      f'Exported {datetime.date.today().isoformat()} from `{run.folder}`, '
      f'checkpoint of step {run.step} of {config.train.steps}.', '',
      '## Data', '', f'- {results["data"] if results else "unfinished run"}',
      f'- digest of the prepared examples: `{digest}`',
      f'- an example: shape {run.data.shape}, {run.data.dtype}']
  if fitted is not None and fitted.columns:
    lines.append('- columns: ' + ', '.join(map(repr, fitted.columns)))
  if fitted is not None and fitted.classes:
    lines.append('- classes, in the order of the outputs: '
                 + ', '.join(map(repr, fitted.classes)))
  if results is not None:
    lines += ['', '## Scores', '',
              f'- test {results["measure"]}: {results["test"]["score"]:.6g}',
              f'- test loss: {results["test"]["loss"]:.6g}']
  lines += ['', '## Cost', '', *_cost(run, passes, rows)]
  versions = provenance.versions()
  lines += [
      '', '## Use', '', '```python',
      'import jax',
      'from safetensors.numpy import load_file',
      '',
      "weights = load_file('weights.safetensors')",
      "with open('forward.jax', 'rb') as file:",
      '  forward = jax.export.deserialize(bytearray(file.read()))',
      'outputs = forward.call(weights, x)  # x prepared as model.json says',
      '```', '',
      'Without Python code of its own: `gradnorm predict` on the run does the '
      'preparation, too.', '',
      '## Roll back', '',
      'This folder is never written again. Keep the one before it, point the '
      'program at that one, and nothing else changes: weights, preprocessing '
      'and program lie together.', '',
      '## Made with', '', *(f'- {name} {version}'
                            for name, version in versions.items()), '',
      '## Configuration', '', '```toml', tables.rstrip(), '```', '']
  return '\n'.join(lines)


def _cost(run: LoadedRun, passes: Sequence[Pass],
          rows: Sequence[dict[str, Any]]) -> list[str]:
  """Time and memory of answers, and the time of training."""
  train = run.config.train
  epoch = train.per_epoch(run.data.rows)
  lines = [
      f'- forward pass of {one.batch} example{"s" * (one.batch > 1)}: '
      f'{duration(one.seconds)}' + (
          '' if one.bytes is None else f', {size(one.bytes)} with weights')
      for one in passes]
  for what, last in (('this checkpoint', run.step), ('the whole run',
                                                     train.steps)):
    spent = sum(row['seconds_per_step'] for row in rows
                if row['step'] <= last) * train.eval_every
    if rows and rows[-1]['step'] >= last:
      lines.append(f'- training to {what}: {last} steps, '
                   f'{last / epoch:.3g} epochs, {duration(spent)} besides '
                   'evaluations')
  return [*lines, f'- measured on: {provenance.machine()["devices"]}']
