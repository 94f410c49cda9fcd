"""docs/scaling.md: its programs on eight devices, its commands, its tables."""

import doctest
import json
import pathlib
import re
import shlex
import tomllib

import jax
import pytest

from benchmarks import collectives_page
from gradnorm_optax import lab
from gradnorm_optax.lab.inspection import run_plan
from gradnorm_optax.lab.training import collectives

TEXT = collectives_page.PAGE.read_text(encoding='utf-8')
CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def test_its_programs_on_eight_devices():
  assert jax.device_count() == 8
  test = doctest.DocTestParser().get_doctest(TEXT, {}, 'scaling', None, 0)
  runner = doctest.DocTestRunner(
      optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
  assert runner.run(test, clear_globs=True).failed == 0 < len(test.examples)


def test_its_tables_are_what_was_measured():
  assert TEXT == collectives_page.page(
      TEXT, json.loads(collectives_page.RESULTS.read_text()))


def test_its_tables_of_a_configuration_are_read():
  table, = re.findall(r'```toml\n(.*?)```', TEXT, re.S)
  lab.load({'models': {'net': {'kind': 'mlp'}},
            'methods': {'adam': {'optimizer': 'adam'}},
            **{'run': tomllib.loads(table)['run']}})


def commands():
  """All commands of the page: (command, its words), each once."""
  blocks = '\n'.join(re.findall(r'```sh\n(.*?)```', TEXT, re.S)).replace(
      '\\\n', ' ')
  inline = re.findall(r'`(gradnorm [^`]*)`', TEXT)
  lines = [shlex.split(line, comments=True) for line in [
      *blocks.splitlines(), *inline]]
  found = {tuple(words[words.index('gradnorm') + 1:])
           for words in lines if 'gradnorm' in words and len(words) > 2}
  return sorted(found)


@pytest.mark.parametrize('words', commands(), ids=' '.join)
def test_its_commands_take_these_options(words, monkeypatch):
  """Each is parsed, and its configuration read; the work is left out."""
  import typer.main

  from gradnorm_optax.lab import cli
  command = typer.main.get_command(cli._app()).commands[words[0]]
  given = [str(CONFIGS / 'text_decoder.toml') if word == 'CONFIG' else word
           for word in words[1:]]
  monkeypatch.chdir(CONFIGS.parent)
  with command.make_context(words[0], given) as context:
    config = lab.load(context.params['config'], context.params['set_'])
  assert config.run.sharding


def test_what_the_plan_says():
  """Exact sizes; one gather of each cut array in a small net."""
  found = run_plan.make(lab.load({
      'data': {'source': 'iris'},
      'models': {'net': {'kind': 'mlp', 'depth': 1, 'width': 64}},
      'methods': {'adam': {'optimizer': 'adam'}},
      'train': {'batch_size': 16}, 'run': {'mesh': {'fsdp': 8}}}))
  # 4 x 64 and 64 x 3 in eighths, biases whole.
  assert found.parameters == (256 + 64 + 192 + 3, 4 * 515, 4 * (448 // 8 + 67))
  assert found.optimizer.numbers == 2 * 515 + 1
  assert found.mesh == {'data': 1, 'fsdp': 8, 'tensor': 1}
  assert found.temporaries > 0 < found.collectives.total
  shown = found.table()
  assert '515 numbers' in shown and 'all-' in shown


def test_collectives_are_counted_as_often_as_they_run():
  from jax import lax, numpy as jnp
  from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
  mesh = jax.make_mesh((8,), ('x',), axis_types=(AxisType.Auto,))

  def step(w, x):
    def layer(x, w):
      return lax.psum(x * w, 'x') / 8, None
    x, _ = lax.scan(layer, x, w)
    rare = lax.cond(x[0] > 5, lambda: lax.psum(x, 'x'), lambda: x * 8)
    return lax.all_gather(rare, 'x'), lax.psum_scatter(
        x, 'x', tiled=True)

  mapped = jax.shard_map(
      step, mesh=mesh, in_specs=(P(), P()), out_specs=(P(), P('x')),
      check_vma=False)
  found = collectives.read(jax.jit(mapped).lower(
      jax.ShapeDtypeStruct((5, 16), jnp.float32),
      jax.ShapeDtypeStruct((16,), jnp.float32, sharding=NamedSharding(
          mesh, P()))).compile().as_text())
  assert found.calls == {'all-reduce': 5, 'all-gather': 1, 'reduce-scatter': 1}
  assert found.bytes == {'all-reduce': 5 * 64, 'all-gather': 8 * 64,
                         'reduce-scatter': 64}
  assert found.branch_bytes == 64
  assert found.total == 5 * 64 + 9 * 64
