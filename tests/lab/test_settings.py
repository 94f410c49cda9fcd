"""A key without effect is refused; methods say what they act on."""

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import numpy as jnp

import gradnorm_optax as gn
from gradnorm_optax import lab
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import chain, scope
from gradnorm_optax.lab.methods.registry import WRAPPERS, Context
from gradnorm_optax.lab.schema import toml
from gradnorm_optax.lab.support.errors import LabError

HERE = __name__


@pytest.mark.parametrize('given, words', [
    ('train.decay_at=[0.9]', 'decay_at has no effect here; .*"step" and'),
    ('train.decay_factor=0.5', 'decay_factor has no effect .* "step"'),
    ('run.max_skips=3', 'max_skips has no effect .* non_finite = "skip"'),
    ('methods.momentum.lookahead_alpha=0.8', 'lookahead_alpha has no effect'),
    ('methods.momentum.where=["*"]', 'where has no effect .* wrap'),
    ('methods.momentum.sampling={rule="random", low=-3.0}',
     'low has no effect .* rule = "sgr"'),
    ('models.small={kind="mlp", activation="tanh", start="unbalanced"}',
     'start has no effect .* activation = "relu"'),
    ('models.small={kind="weight_norm_paper", depth=9}',
     'depth has no effect .* kind = "weight_norm_small"'),
    ('compare.learning_rates=[0.1, 0.2, 0.1]', r'0.1 is listed twice'),
    ('methods.momentum={optimizer="adam", wrap="weight_normalized", '
     'blocks="layer"}', 'blocks: weight_normalized takes units or arrays'),
])
def test_what_has_no_effect_is_refused(tiny, given, words):
  with pytest.raises(LabError, match=words):
    lab.load(tiny, [given])


def test_a_resolved_configuration_is_read_again(tiny):
  """Its defaults are no settings without effect."""
  config = lab.load(tiny, ['train.schedule=step', 'train.decay_at=[0.9]'])
  tiny.write_text(toml.resolved(config))
  assert lab.load(tiny).train == config.train
  assert lab.load(tiny).compare.target == 0.3


def test_a_target_is_a_share_where_scores_are(tiny, gradnorm):
  code, _, err = gradnorm('compare', tiny, '--out', tiny.parent / 'run',
                          '--set', 'compare.target=80')
  assert code == 2 and 'target: 80 is above 1, the best accuracy' in err
  assert 'such as 0.8' in err and not (tiny.parent / 'run').exists()


class Cell(nn.Module):
  """A model whose own parameters have no usual names."""

  @nn.compact
  def __call__(self, x):
    win = self.param('win', nn.initializers.ones, (x.shape[-1], 50))
    wrec = self.param('wrec', nn.initializers.ones, (50, 50))
    return nn.Dense(10)(jnp.tanh(x @ win) @ wrec)


def cell(outputs):
  return Cell()


def softmax(outputs):
  return nn.Sequential([nn.Dense(outputs), nn.softmax])


def test_weight_normalization_says_what_it_leaves_out():
  params = jax.eval_shape(Cell().init, jax.random.key(0),
                          jnp.ones((1, 64)))['params']
  table = {'optimizer': 'adam', 'wrap': 'weight_normalized'}
  found, = scope.scopes(schema.Method(**table), params, Context())
  assert found.left == ('Dense_0/bias', 'win', 'wrec') and found.partial
  size = 500 / (64 * 50 + 2500 + 510)
  assert found.share == pytest.approx(size)
  assert 'acts on 1 of 4 arrays, 8% of the parameters; not on' in found.text()
  whole = schema.Method(**table, where=['*kernel', 'w*'], blocks={
      'fan_in': {'w*': 0}})
  for wrap in WRAPPERS:
    found, = scope.scopes(
        whole.model_copy(update={'wrap': wrap}), params, Context())
    assert found.left == ('Dense_0/bias',) and not found.partial
  # And that is what the optimizer does.
  state = jax.eval_shape(chain.build(whole, 1e-3).tx.init, params)
  assert set(state.scale) == {'Dense_0/kernel', 'win', 'wrec'}


def test_scanned_layers_are_known_where_scopes_are_told():
  """Layer axes that the lab or the user names are no doubt, and no warning."""
  params = {'layers': {'key': {'bias': jnp.ones((4, 4, 12))}},
            'out': {'kernel': jnp.ones((12, 3))}}
  stacked = {'layers/*': 0}
  for table, context in (
      ({'optimizer': 'adam'}, Context()),  # has no blocks to be in doubt of
      ({'optimizer': 'sing'}, Context(stacked)),
      ({'optimizer': 'sing', 'blocks': {'stacked': stacked}}, Context()),
      ({'optimizer': 'adam', 'normalize': 'bng', 'blocks': {
          'by': 'layer', 'stacked': stacked, 'skip': ['out*']}}, Context())):
    method = schema.Method(**table)
    found = scope.scopes(method, params, context)
    left = ('out/kernel',) if method.normalize else ()
    assert [(one.arrays, one.left) for one in found] == [
        (2 - len(left), left)] * (table != {'optimizer': 'adam'})


def test_blocks_reach_sing_and_the_wrapper():
  """The same steps as the library's, written out."""
  params = {'a': {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)},
            'b': {'kernel': jnp.ones((2, 2))}}
  grads = jax.tree.map(
      lambda p: p * jnp.arange(p.size).reshape(p.shape), params)
  cases = [
      (schema.Method(optimizer='sing', blocks={'skip': ['b/*']}),
       gn.sing(0.1, blocks=gn.Blocks('leaf', skip=['b/*']))),
      (schema.Method(optimizer='sing', blocks='layer'),
       gn.sing(0.1, blocks=gn.Blocks('layer'))),
      (schema.Method(optimizer='sgd', wrap='weight_normalized', where='b/*',
                     blocks='leaf'),
       gn.weight_normalized(optax.sgd(0.1), where='b/*', blocks='leaf')),
      # `by` is the normalizer's where there is one, the rest is for both.
      (schema.Method(optimizer='sgd', wrap='weight_normalized',
                     normalize='bng', blocks={'by': 'layer', 'fan_in': {
                         'a/kernel': 1}}),
       gn.weight_normalized(
           optax.chain(gn.normalize_by_block_norm(gn.Blocks(
               'layer', fan_in={'?/a/kernel': 1})), optax.sgd(0.1)),
           blocks=gn.Blocks('unit', fan_in={'a/kernel': 1}))),
      # A table without `by` keeps the method's own.
      (schema.Method(optimizer='sgd', normalize='sing', blocks={
          'skip': ['b/*']}),
       optax.chain(gn.standardize(gn.Blocks('leaf', skip=['b/*'])),
                   optax.sgd(0.1)))]
  for table, want in cases:
    built = chain.build(table, 0.1).tx
    got, expected = (tx.update(grads, tx.init(params), params)[0]
                     for tx in (built, want))
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_all_refusals_at_once_with_their_mends(tiny, gradnorm):
  tiny.write_text(tiny.read_text() + """
[models.odd]
kind = "target"
target = "test_settings:cell"

[methods.paths]
optimizer = "path_sgd"

[methods.unit]
optimizer = "adam"
normalize = "sing"

[methods.again]
optimizer = "sing"
models = ["odd"]
""")
  code, _, err = gradnorm('compare', tiny, '--out', tiny.parent / 'run')
  assert code == 2 and not (tiny.parent / 'run').exists()
  lines = err.strip().removeprefix('gradnorm: ').splitlines()
  assert len(lines) == 3, err
  for line, name in zip(sorted(lines), ('again', 'paths', 'unit'), strict=True):
    assert f'[methods.{name}] on [models.odd]: ' in line
  assert "methods.unit.models = ['small']" in err
  assert 'take [methods.again] out' in err


def test_probabilities_are_refused(tiny, gradnorm):
  code, _, err = gradnorm(
      'compare', tiny, '--out', tiny.parent / 'run', '--set',
      'models.small={kind="target", target="test_settings:softmax"}')
  assert code == 2 and err.count('\n') == 1, err
  assert 'returns probabilities' in err and 'leave the softmax out' in err


def test_parts_inside_the_wrapper_know_scanned_layers():
  """Globs are the model's paths; inside, the tree holds v and g."""
  params = {'layers': {'kernel': jnp.stack([jnp.eye(3), 10 * jnp.eye(3)])}}
  context = Context(stacked={'layers/*': 0})
  grads = jax.tree.map(lambda p: p + jnp.arange(3.0), params)
  for table in ({'optimizer': 'sing'},
                {'optimizer': 'sgd', 'normalize': 'bng'}):
    tx = chain.build(
        schema.Method(**table, wrap='weight_normalized'), 0.1, context).tx
    whole, _ = tx.update(grads, tx.init(params), params)
    # Every layer as if it were alone.
    for i in range(2):
      alone = chain.build(
          schema.Method(**table, wrap='weight_normalized'), 0.1).tx
      one, more = ({'layers': {'kernel': tree['layers']['kernel'][i]}}
                   for tree in (params, grads))
      got, _ = alone.update(more, alone.init(one), one)
      np.testing.assert_allclose(
          whole['layers']['kernel'][i], got['layers']['kernel'], rtol=1e-5,
          atol=1e-7)


def test_a_run_of_an_unknown_method_is_refused(tiny):
  with pytest.raises(LabError, match="run.method: unknown name 'momentun'"):
    lab.load(tiny, ['run.method=momentun'])
