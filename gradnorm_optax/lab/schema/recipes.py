"""Compositions with a name of their own: what they write into a method's
table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gradnorm_optax.lab.schema.base import complaint


class Recipe(NamedTuple):
  """A name for `optimizer`, and the table that it stands for."""

  summary: str
  table: Mapping[str, Any]


RECIPES: dict[str, Recipe] = {
    'fixed_lengths_adam': Recipe(
        'Adam on the directions of units, whose lengths stay',
        {'optimizer': 'adam', 'wrap': 'fixed_lengths'}),
    'hyperball': Recipe(
        'Adam\'s step of each matrix at a fixed length, on a sphere',
        {'optimizer': 'normalized_adam', 'wrap': 'fixed_lengths',
         'blocks': {'by': 'leaf'}}),
    'muon_weight_normalized': Recipe(
        'Muon on the directions of weight normalization, Adam on the lengths',
        {'optimizer': 'muon', 'wrap': 'weight_normalized',
         'options': {'adam_learning_rate': 0.001}}),
    'sing_muon': Recipe('SING\'s standardization, then Muon',
                        {'optimizer': 'muon', 'normalize': ['sing']}),
    'bng_muon': Recipe('block-normalized gradients, then Muon',
                       {'optimizer': 'muon', 'normalize': ['bng']}),
}


def spelt_out(given: Any) -> Any:
  """A method's table with its recipe written into it.

  Options of the table win over the recipe's; another composition is refused.

  >>> spelt_out({'optimizer': 'sing_muon', 'clip': 1.0})
  {'optimizer': 'muon', 'normalize': ['sing'], 'clip': 1.0}
  """
  name = given.get('optimizer') if isinstance(given, Mapping) else None
  recipe = RECIPES.get(name) if isinstance(name, str) else None
  if recipe is None:
    return given
  rest = {key: value for key, value in given.items() if key != 'optimizer'}
  for key in ('wrap', 'normalize'):
    if key in recipe.table and key in rest:
      raise complaint(f'{key} is {recipe.table[key]!r} in the recipe {name!r}; '
                      f'write optimizer = {recipe.table["optimizer"]!r} to '
                      'compose it otherwise')
  options = {**recipe.table.get('options', {}), **rest.pop('options', {})}
  return {**recipe.table, **({'options': options} if options else {}), **rest}
