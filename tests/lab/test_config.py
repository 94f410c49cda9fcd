"""A mistake in a configuration is one line that names the mend."""

import pathlib
import re
import sys

import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import Mistakes

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'

MISTAKES = {
    'train.stpes=5': (
        r"\[train\] unknown key 'stpes'; the nearest known name is 'steps'"),
    'models.small.widht=5': r"\[models.small\] .*'widht'.*'width'",
    'models.small.kind=mpl': r"\[models.small\] .*kind of model 'mpl'.*'mlp'",
    'modles.x.kind=mlp': r"unknown key 'modles'; .*'models'",
    'methods.momentum.optimizer=adma': (
        r"\[methods.momentum\] unknown optimizer 'adma'; .*'adam'"),
    'methods.momentum.wrap=nothing': r'wrap: unknown method',
    'methods.momentum.normalize=bgn': r"unknown method 'bgn'; .*'bng'",
    'methods.momentum.options={beta=3}': r"'momentum' with .*'beta'",
    'methods.momentum.optimizer=no.such:thing': r"cannot import 'no.such'",
    'methods.momentum.optimizer=optax:adma': r"no 'adma'.*'adamax'",
    'methods.momentum.blocks=leaf': r'blocks have nothing to act on without',
    'methods.momentum={optimizer="sgd", normalize="bng", blocks="lear"}': (
        r"\[methods.momentum.blocks\] by: input should be 'leaf',.* 'lear' \("),
    'methods.momentum.normalize=5': r'normalize: input should be a valid list',
    'methods.momentum.ratio=0.02': r'ratio belongs to',
    'compare.learning_rates=[0.1, -1]': (
        r'\[compare.learning_rates\] 1: .*greater than 0, not -1'),
    'methods.momentum.learning_rates=[0.1]': (
        r'has 1 values, .* has 3: every method must search a grid of the same'),
    'compare.learning_rates=[0.1, 0.2]': (
        r'2 values: both are edges .* give three or more'),
    'compare.baseline=momentun': r"unknown method 'momentun'.*'momentum'",
    'compare.seeds=true': (
        r'\[compare.seeds\] takes a number, not true or false'),
    'compare.learning_rates=[true, 0.1, 0.2]': (
        r'\[compare.learning_rates.0\] takes a number, not true'),
    'train.steps=25': r'steps \(25\) must be a multiple of eval_every \(10\)',
    'train.steps=many': r"steps: .*integer.*'many' \(from --set train.steps",
    'train.decay_at=[]': r'decay_at: list should have at least 1 item',
    'train=5': r'train: input should be a valid table, not 5',
    'models.new.depth=2': r'\[models.new\] kind: field required',
    'run.seed=3000000000': r'\[run\] seed: .*less than 2147483648',
    'train.steps': r'write it as section.key=value',
    'train.steps.x=1': r"'steps' is a value, not a section",
    'data.validation=0.9': r'leave a share for training',
    'data.source=irsi': r"\[data\] source: .*'iris'.*not 'irsi'",
    'data.source=file': r'path and source = "file" belong together',
    'data.source=hub': r'path and source = "hub" belong together',
    'data.target=a:b': r'target and source = "function" belong together',
    'data.labels=y.npy': r'labels and a path that ends in .npy belong',
    'train.loss=hubr': r"unknown loss 'hubr'; .*'huber' .*package.module:func",
    'train.score=f': r"unknown score 'f'; .*'f1' .*package.module:func",
    'compare.learning_rates=[0.1': r'--set .*: not valid TOML: .*quotes',
    'methods.new.clip=1': r'\[methods.new\] optimizer: field required',
    '"methods.x=1': r'unknown key',
    '#a=1': r'--set #a=1: write it as section.key=value',
}

# Found when the data are read.
LATER = {
    'data={source="long_dependency", task="temporal"}': (
        r"unknown task 'temporal'.*'temporal_order'"),
    'data={source="file", path="no.csv"}': r'no.csv does not exist in /',
    f'data={{source="file", path="{"x" * 300}.csv"}}': r'File name too long',
    'train.loss=huber': r'needs numbers; .*data.predict = "number"',
    'train.loss=no.such:loss': r"cannot import 'no.such'",
}


@pytest.mark.parametrize('override', LATER)
def test_mistake_in_what_is_named(tiny, gradnorm, override):
  code, out, err = gradnorm('compare', tiny, '--out', tiny.parent / 'run',
                            '--set', override)
  assert code == 2 and not out
  assert err.startswith('gradnorm: ') and err.count('\n') == 1
  assert re.search(LATER[override], err), err


@pytest.mark.parametrize('override', MISTAKES)
def test_mistake(tiny, gradnorm, override):
  code, out, err = gradnorm('compare', tiny, '--set', override)
  assert code == 2 and not out
  assert err.startswith('gradnorm: ') and err.count('\n') == 1
  assert re.search(MISTAKES[override], err), err
  if '--set' not in err:
    assert str(tiny) in err


def test_missing_file(gradnorm, tmp_path):
  code, _, err = gradnorm('compare', tmp_path / 'none.toml')
  assert code == 2
  assert err == (f'gradnorm: {tmp_path}/none.toml: cannot read this '
                 'configuration (No such file or directory)\n')


def test_broken_toml(gradnorm, tmp_path):
  path = tmp_path / 'broken.toml'
  path.write_text('[train\nsteps = 1\n')
  code, _, err = gradnorm('compare', path)
  assert code == 2 and 'not valid TOML' in err and 'line 1' in err


def test_encodings_and_names_of_files(gradnorm, tmp_path, tiny_text):
  path = tmp_path / 'my notes.toml'
  path.write_bytes(b'\xef\xbb\xbf' + tiny_text.encode())  # as on Windows
  assert lab.load(path).name == 'my_notes'
  path.write_bytes('title = "caf\xe9"\n'.encode('latin-1'))
  code, _, err = gradnorm('compare', path)
  assert code == 2 and 'not UTF-8 text' in err and err.count('\n') == 1


def test_modules_beside_a_configuration_come_first(
    tmp_path, monkeypatch, tiny_text):
  for name in ('here', 'there'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.toml').write_text(tiny_text)
    (tmp_path / name / 'own_place.py').write_text(
        f'def f(): return {name!r}\n')
  (tmp_path / 'here' / 'own_current.py').write_text('def f(): return 1\n')
  path, modules = list(sys.path), set(sys.modules)
  monkeypatch.chdir(tmp_path / 'here')
  for name in ('there', 'here', 'there'):
    lab.load(tmp_path / name / 'config.toml')
    assert user_code.resolve('own_place:f')() == name
    assert user_code.resolve('own_current:f')() == 1  # of the current folder
  assert sys.path == path
  assert not {'own_place', 'own_current'} & (set(sys.modules) - modules)


def test_overrides_and_resolved_config(tiny, tmp_path):
  read = lab.load(
      tiny, ['train.steps=40', 'data.source=digits', 'methods.momentum.clip=2'])
  assert (read.train.steps, read.methods['momentum'].clip) == (40, 2.0)
  assert read.name == 'tiny'
  again = tmp_path / 'again.toml'
  again.write_text(toml.resolved(read))
  assert lab.load(again) == read


def test_any_value_is_set_with_one_flag(tiny):
  read = lab.load(tiny, [
      'methods.new={optimizer="sgd", options={nesterov=true, momentum=0.5}}',
      'methods.momentum.options.nesterov=true',
      'methods.momentum.blocks.skip=["*bias", "a\'b"]',
      'methods.momentum.blocks.stacked."layers.*/kernel"=0',
      'methods.momentum.normalize=bng',
      'compare.learning_rates=[1e-3, 1e-2, 0.1]',
      'models.two={kind="mlp"}', 'models.two.depth=5', 'title="a = \'b\'"'])
  assert read.methods['new'].options == {'nesterov': True, 'momentum': 0.5}
  momentum = read.methods['momentum']
  assert momentum.options == {'nesterov': True}
  assert momentum.blocks.skip == ('*bias', "a'b")
  assert momentum.blocks.stacked == {'layers.*/kernel': 0}
  assert read.compare.learning_rates == (1e-3, 1e-2, 0.1)
  assert read.models['two'].depth == 5 and read.title == "a = 'b'"
  assert lab.load(tiny, ['title=say "x"']).title == 'say "x"'


def test_frozen(tiny):
  with pytest.raises(ValueError, match='frozen'):
    lab.load(tiny).train.steps = 3


@pytest.mark.parametrize('path', sorted(CONFIGS.rglob('*.toml')),
                         ids=lambda path: path.stem)
def test_every_configuration_that_comes_along_is_valid(path):
  config = lab.load(path)
  assert config.name == path.stem and config.title


def test_all_mistakes_at_once(tiny):
  """Of several tables, and several of one; those of the whole come after."""
  with pytest.raises(Mistakes) as told:
    lab.load(tiny, ['train.stpes=5', 'train.batch_size=0',
                    'models.small.widht=3', 'methods.momentum.optimzer=adam',
                    'compare.seeds=true'])
  lines = told.value.lines
  assert [re.search(r"\[[\w.]+\] (unknown key '\w+'|\w+)", line)[0]
          for line in lines] == [
              "[models.small] unknown key 'widht'",
              "[methods.momentum] unknown key 'optimzer'",
              "[train] unknown key 'stpes'", '[train] batch_size',
              '[compare.seeds] takes']
  assert "'width'" in lines[0] and "'optimizer'" in lines[1]
  assert "'steps'" in lines[2] and 'from --set train.batch_size=0' in lines[3]
  assert str(told.value) == (
      lines[0] + ' (and 4 more, which gradnorm check lists)')
  with pytest.raises(Mistakes) as told:
    lab.load(tiny, ['compare.learning_rates=[0.1, 0.2]',
                    'methods.momentum.models=["big"]',
                    'compare.baseline=sgd'])
  assert [line.split()[1] for line in told.value.lines] == [
      'compare.learning_rates', 'methods.momentum.models:',
      'compare.baseline:']
  with pytest.raises(Mistakes) as told:
    lab.load(tiny, ['methods.momentum.optimizer=adm',
                    'methods.clip_momentum.wrap=weights'])
  assert ["'adam'" in line or "'weight_normalized'" in line
          for line in told.value.lines] == [True, True]
