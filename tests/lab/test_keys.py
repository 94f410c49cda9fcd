"""`gradnorm keys`: the configuration's keys, as its own tables tell them."""

import pathlib

import pytest

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.reporting import keys as page
from gradnorm_optax.lab.schema import keys, search
from gradnorm_optax.lab.support.errors import LabError

DOCS = pathlib.Path(__file__).parents[2] / 'docs'


def test_the_page_of_the_docs_is_what_the_schema_says():
  assert (DOCS / 'keys.md').read_text(encoding='utf-8') == page.markdown(
      keys.sections()), 'run: gradnorm keys --markdown > docs/keys.md'


def test_every_key_of_every_table_has_a_meaning():
  found = keys.sections()
  for section in found:
    assert section.about, section.name
    for key in section.keys:
      assert key.meaning and key.takes, (section.heading, key.name)
  # None is left out: every table of the package is among them.
  tables = [schema.Config, schema.Data, schema.Train, schema.Run, schema.Watch,
            schema.Compare, schema.Method, schema.BlocksTable, schema.Sampling,
            schema.Mesh, search.Search, search.MethodSearch,
            # Of all methods, and of one.
            *2 * [search.TrainSearch, search.Range],
            *(getattr(schema, name) for name in (
                'MLP', 'CNN', 'ResNet', 'Transformer', 'Own', 'RecurrentNet',
                'WeightNormNet'))]
  assert sorted(tuple(table.model_fields) for table in tables) == sorted(
      tuple(key.name for key in section.keys) for section in found)


@pytest.mark.parametrize('query, takes, default', [
    ('train.steps', 'integer > 0', '1000'),
    ('train.warmup', '0 <= number < 1', '0.0'),
    ('tune_seeds', '1 <= integer <= 1000', '2'),  # a key's name alone
    ('data.sizes', 'list of 3: integer > 0', '[20000, 1000, 10000]'),
    ('data.predict', '"class", "number"', '"class"'),
    ('data.symbols', 'true, false', 'false'),
    ('methods.mine.clip', 'number > 0', 'none'),
    ('methods.NAME.optimizer', 'string', 'required'),
    ('models.mlp.kind', '"mlp"', 'required'),
    ('sampling.rule', None, None),
    ('stepz', None, None),
])
def test_a_key_is_found_with_its_type_and_default(query, takes, default):
  if takes is None:
    with pytest.raises(LabError, match=f"no section or key '{query}'"):
      keys.select(query)
    return
  (found,) = {one.keys for one in keys.select(query)}
  assert [key[:3] for key in found] == [(query.split('.')[-1], takes, default)]


def test_a_section_is_shown_with_what_lies_in_it(gradnorm):
  assert [one.heading for one in keys.select('methods')] == [
      '[methods.NAME]', '[methods.NAME.blocks]', '[methods.NAME.sampling]',
      '[methods.NAME.search]', '[methods.NAME.search.learning_rate]',
      '[methods.NAME.search.train]']
  assert [one.kinds for one in keys.select('models.recurrent')] == [
      ('recurrent',)]
  code, out, _ = gradnorm('keys', 'run')
  assert code == 0 and out.startswith('[run]') and 'checkpoint_every' in out
  assert 'eval_every' not in out
  code, out, _ = gradnorm('keys', 'train', '--markdown')
  assert code == 0 and '## `[train]`' in out
  code, _, err = gradnorm('keys', 'trian')
  assert code == 2 and err.endswith("the nearest known name is 'train'\n")
