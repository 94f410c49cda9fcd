"""What methods are made of, as `gradnorm methods` shows it."""

from rich import table

from gradnorm_optax.lab.methods import registry
from gradnorm_optax.lab.schema.recipes import RECIPES


def render() -> table.Table:
  """Every name that a method's table may hold."""
  shown = table.Table(box=None, pad_edge=False)
  for name in ('key', 'value', 'what it is'):
    shown.add_column(name, style='bold' if name == 'value' else None)
  for key, rows in (('optimizer', registry.OPTIMIZERS),
                    ('normalize', registry.NORMALIZERS),
                    ('wrap', registry.WRAPPERS)):
    for name, row in rows.items():
      shown.add_row(key, name, row.summary)
  for name, recipe in RECIPES.items():
    shown.add_row('optimizer', name, f'{recipe.summary} (a recipe)')
  shown.add_row('optimizer', 'package.module:function',
                'your own: called with the learning rate and `options`')
  shown.add_row('clip', '1.0', 'the gradient\'s global norm clipped, first')
  shown.add_row('blocks', 'layer', 'what `normalize` takes together: leaf, '
                'layer, unit, global, or a table as `gn.Blocks`')
  shown.add_row('where', '["*kernel"]', 'the arrays that `wrap` acts on')
  shown.add_row('sampling', 'a table', 'recurrent nets: the batch is a pool, '
                'and `gn.sgr` (rule = "sgr") or chance ("random") chooses')
  shown.add_row('pascanu', '1.0', 'recurrent nets: the weight of Pascanu\'s '
                'regularizer of the gradient through time')
  shown.add_row('lookahead', '5', 'slow weights every 5 steps; the fast '
                'weights are evaluated')
  return shown
