"""The files of a finished comparison."""

import io
import json
from typing import TYPE_CHECKING, Any

import tomli_w
from matplotlib import rc_context

from gradnorm_optax.lab import provenance, results, schema, summary

if TYPE_CHECKING:
  from gradnorm_optax.lab.comparison import Comparison


def resolved(config: schema.Config) -> str:
  """The whole configuration as TOML, defaults included."""
  return tomli_w.dumps(_filled(config.model_dump(mode='json')))


def _filled(value: Any) -> Any:
  """Drops what TOML cannot say: None."""
  if isinstance(value, dict):
    return {k: _filled(v) for k, v in value.items() if v is not None}
  if isinstance(value, list):
    return [_filled(v) for v in value]
  return value


def save(comparison: 'Comparison') -> None:
  """Writes results.json, config.toml, the figures and report.html."""
  from gradnorm_optax.lab import report
  folder, found = comparison.folder, comparison.summary
  content = {
      'versions': provenance.versions(), 'revision': provenance.revision(),
      'machine': provenance.machine(),
      'config': comparison.config.model_dump(mode='json'),
      'summary': summary.plain(found)}
  results.write(folder / 'results.json',
                json.dumps(content, indent=1, allow_nan=False) + '\n')
  results.write(folder / 'config.toml', resolved(comparison.config))
  with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'gradnorm'}):
    for name, figure in comparison.plot().items():
      for suffix in ('svg', 'png'):
        picture = io.BytesIO()
        figure.savefig(picture, format=suffix, dpi=150)
        results.write(folder / f'{name}.{suffix}', picture.getvalue())
    results.write(folder / 'report.html', report.build(comparison))
