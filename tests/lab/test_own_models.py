"""The user's own models: NNX as Linen, random streams, clear refusals."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import own_models
import pytest
from flax import nnx

import gradnorm_optax as gn
from gradnorm_optax import lab
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import dataset as dataset_lib, sources
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.models import user_model
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training import make_problem, steps as steps_lib

TABLES = {
    'name': 'mine',
    'models': {'mine': {'kind': 'target', 'target': 'own_models:Net'}},
    'methods': {
        'momentum': {'optimizer': 'momentum'},
        'bng': {'optimizer': 'momentum', 'normalize': 'bng'}},
    'train': {'steps': 8, 'eval_every': 4, 'batch_size': 32},
    'compare': {'learning_rates': [0.01], 'tune_seeds': 1, 'seeds': 2,
                'target': 0.1, 'workers': 1, 'timing_rounds': 2}}
KEY = jax.random.key(0)


def model(name, **options):
  return user_model.make(schema.Own(
      kind='target', target=f'own_models:{name}', options=options), 10)


@pytest.fixture(scope='module')
def digits():
  return sources.load(schema.Data())


def test_names_and_collections():
  made = model('Net', width=4)
  variables = jax.jit(made.init)(KEY, jnp.zeros((1, 64)))
  shapes = jax.tree.map(jnp.shape, variables)
  assert shapes['params']['hidden']['0'] == {'kernel': (64, 4), 'bias': (4,)}
  assert set(variables) == {'params', 'batch_stat', 'rng_key', 'rng_count'}
  assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
                 for leaf in jax.tree.leaves(variables))
  # Presets, and the optimizer-level form, find the kernels.
  assert 'hidden/0/kernel' in str(gn.explain(
      variables['params'], gn.Blocks.flax()))
  state = gn.weight_normalized(optax.sgd(0.1)).init(variables['params'])
  assert state.scale['head/kernel'].shape == (1, 10)


def test_steps_equal_those_of_an_nnx_optimizer(digits):
  """Batch statistics and dropout included."""
  made = make_problem.join(schema.Own(
      kind='target', target='own_models:Net'), digits)
  built = chain.build(schema.Method(optimizer='adam'), 0.01)
  state = jax.jit(lambda seed: steps_lib.start(
      made, built, *made.init(seed)))(3)
  step = jax.jit(lambda state: steps_lib.step(
      made, built, schema.Train(batch_size=20),
      jax.tree.map(jnp.asarray, digits.train), 3, state)[0])
  net = own_models.Net(10, rngs=nnx.Rngs(
      jax.random.fold_in(jax.random.key(3), 0)))
  optimizer = nnx.Optimizer(net, optax.adam(0.01), wrt=nnx.Param)
  net.train()

  @nnx.jit
  def plain(net, optimizer, x, y):
    def loss(net):
      return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

    optimizer.update(net, nnx.grad(loss)(net))

  for i in range(5):
    before, state = state, step(state)
    rows = np.asarray(state.order[20 * i:20 * (i + 1)])
    plain(net, optimizer, digits.train.x[rows], digits.train.y[rows])
    assert (state.extra['rng_count']['drop']['rngs']['count']
            == before.extra['rng_count']['drop']['rngs']['count'] + 1)
  got = {'params': state.params, **state.extra}
  want = made.module.init(KEY, None)
  for path, variable in nnx.to_flat_state(nnx.state(net)):
    if isinstance(variable, nnx.RngState):
      continue
    kind = 'params' if isinstance(variable, nnx.Param) else 'batch_stat'
    value, first = got[kind], want[kind]
    for name in map(str, path):
      value, first = value[name], first[name]
    np.testing.assert_allclose(
        value, variable.get_value(), rtol=1e-5, atol=1e-6, err_msg=str(path))
  net.eval()
  np.testing.assert_allclose(made.module.apply(got, digits.test.x[:9]),
                             net(digits.test.x[:9]), rtol=1e-4, atol=1e-5)


def test_compare_train_and_inspect(tmp_path):
  found = lab.compare(TABLES, out=tmp_path / 'compare', quiet=True)
  assert [row.seeds for row in found.summary.rows] == [2, 2]
  trials = [set(run.curve) for run in found.summary.rows[0].runs]
  assert trials[0] != trials[1]  # every seed draws weights of its own
  # Vmapped over seeds and rates, the same.
  shared = lab.compare(TABLES, ['compare.trials_per_call=2'],
                       out=tmp_path / 'shared', quiet=True)
  for row, other in zip(
      found.summary.rows, shared.summary.rows, strict=True):
    # Sums in another order: of 270 validation examples three may turn.
    assert row.score.mean == pytest.approx(other.score.mean, abs=3.5 / 270)
  looked = lab.inspect(TABLES, out=tmp_path / 'inspect')
  assert 'hidden/0/kernel' in looked.explained['mine']


def test_training_goes_on_where_it_stopped(tmp_path):
  def train(steps, out):
    return lab.train({**TABLES, 'train': {
        **TABLES['train'], 'steps': steps}}, out=tmp_path / out, quiet=True)

  whole = train(8, 'whole')
  train(8, 'again')
  # As if it had been killed before the last one.
  shutil.rmtree(tmp_path / 'again' / 'checkpoints' / '8')
  again = train(8, 'again')
  for a, b in zip(jax.tree.leaves(whole.params),
                  jax.tree.leaves(again.params), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_model_with_weights_of_its_own():
  made = model('trained')
  x = jax.random.normal(KEY, (3, 64))
  first, second = (made.init(key, x) for key in jax.random.split(KEY))
  plain = own_models.trained(10)
  plain.eval()
  np.testing.assert_allclose(made.apply(first, x), plain(x), rtol=1e-6)
  for a, b in zip(*map(jax.tree.leaves, (
      first['params'], second['params'])), strict=True):
    np.testing.assert_array_equal(a, b)
  one, two = (made.apply(v, x, train=True, mutable=['rng_count'])[0]
              for v in (first, second))
  assert np.any(one != two)  # yet every run drops other units


def test_linen_streams_advance():
  made = model('dropped')
  x = jnp.ones((4, 5))
  variables = made.init(KEY, x)
  call = jax.jit(lambda v: made.apply(v, x, train=True, mutable=['random']))
  one, new = call(variables)
  two, _ = call({**variables, **new})
  again, _ = call(variables)
  np.testing.assert_array_equal(one, again)
  assert np.any(one != two)
  np.testing.assert_array_equal(made.apply(variables, x), made.module.apply(
      {'params': variables['params']}, x))


def test_lengths_reach_a_model_that_takes_them():
  made = model('Told')
  assert make_problem.takes_lengths(made) == (True, False)
  assert make_problem.takes_lengths(model('Net')) == (False, False)
  x = jax.random.normal(KEY, (3, 5, 2))
  variables = made.init(KEY, x)
  short = made.apply(variables, x, lengths=jnp.array([2, 5, 1]))
  np.testing.assert_allclose(short[0], made.apply(
      variables, x[:1, :2], lengths=jnp.array([2]))[0], rtol=1e-5)


def test_what_is_missing_is_named():
  made = model('Net')
  params = {'params': made.init(KEY, None)['params']}
  with pytest.raises(LabError, match=r'norm/mean \(BatchStat\)'):
    made.apply(params, jnp.zeros((1, 64)))
  with pytest.raises(LabError, match='returned int, neither'):
    model('nothing')
  with pytest.raises(LabError, match='without the parentheses'):
    model('forgotten')
  with pytest.raises(LabError, match=r"options \{'wide': 3\}.*'wide'"):
    model('Net', wide=3)
  with pytest.raises(LabError, match='Uncalled has no __call__'):
    model('Uncalled')
  with pytest.raises(LabError, match='Asks: its __call__ is given .* .mask.'):
    model('Asks')
  with pytest.raises(LabError, match='PlainArray.scale is a plain array'):
    model('PlainArray')
  with pytest.raises(LabError, match='Hides.train hides the method of nnx'):
    model('Hides')
  with pytest.raises(LabError, match='takes rngs, .* returned a flax.linen'):
    model('linen_with_rngs')
  with pytest.raises(LabError, match='options.rngs: the lab gives rngs'):
    model('Net', rngs=3)
  with pytest.raises(LabError, match="'own_models:nnx' is module, not a func"):
    model('nnx')


def build(name, dataset):
  return make_problem.join(schema.Own(
      kind='target', target=f'own_models:{name}'), dataset)


@pytest.mark.parametrize('name, words', [
    ('Pair', r"\[models\] 'own_models:Pair' returned tuple from its call, not "
     r'one array of floating-point outputs, \(B, 10\)'),
    ('narrow', r"\[models\] 'own_models:narrow' returns shape \(5, 9\) for "
     r'labels of shape \(5,\) and 10 classes; it must be \(5, 10\); its '
     r'function is given outputs = 10'),
    ('Weightless', r"'own_models:Weightless' has no parameters: there is "
     'nothing to train'),
    ('NnxWeightless', r"'own_models:NnxWeightless' has no parameters"),
    ('Whole', "'own_models:Whole': the parameter 'order' is int32, which has"),
    ('Answers', 'Answers. returned an array of int32 from its call, not one'),
    ('Conv', r"'own_models:Conv', called with examples \(128, 64\), float32, "
     r'raised ValueError: .* \(own_models\.py, line \d+\)')])
def test_models_that_do_not_fit_are_named(digits, name, words):
  made = build(name, digits)
  few = jax.tree.map(lambda a: a[:5], digits.validation)
  for use in (lambda variables: made.loss(*variables, *few),
              lambda variables: made.evaluate(*variables, few)):
    with pytest.raises(LabError, match=words):
      jax.eval_shape(lambda use=use: use(made.init(0)))


def test_what_a_models_function_raises_is_one_line_with_its_place():
  with pytest.raises(LabError, match=(
      r"own_models:hasty', called with outputs=10, raised TypeError: unsup.* "
      r'\(own_models\.py, line \d+\)$')):
    model('hasty')


@pytest.mark.parametrize('data, size', [
    ({'source': 'wine'}, 13), ({'source': 'characters', 'size': 60}, None)])
def test_a_function_is_told_the_shape_of_its_inputs(data, size):
  dataset = sources.load(schema.Data(**data))
  params = build('Shaped', dataset).init(0)[0]
  kernel, = params['first'].values() if dataset.symbols else (
      params['first']['kernel'],)
  assert kernel.shape == (size or dataset.symbols, 4)


@pytest.mark.parametrize('name, words', [
    ('AlwaysDrops', 'AlwaysDrops draws random numbers in evaluation too .*; '
     'take `train`'),
    ('AlwaysCounts', 'AlwaysCounts changes its variables in evaluation too'),
    ('Sows', "its variables 'losses' have other shapes after a step than bef")])
def test_variables_that_cannot_be_carried(digits, name, words):
  made = build(name, digits)
  few = jax.tree.map(lambda a: a[:5], digits.validation)

  def use():
    variables = made.init(0)
    made.evaluate(*variables, few)
    return made.loss(*variables, *few)

  with pytest.raises(LabError, match=words):
    jax.eval_shape(use)


@pytest.mark.parametrize('name', [
    'Training', 'Deterministic', 'NnxDeterministic'])
def test_the_mode_under_its_other_names(name):
  made = model(name)
  x = jax.random.normal(KEY, (4, 64))
  variables = made.init(KEY, x)
  mutable = [key for key in variables if key != 'params']
  first, new = made.apply(variables, x, train=True, mutable=mutable)
  again, _ = made.apply({**variables, **new}, x, train=True, mutable=mutable)
  assert np.any(first != again)  # dropout is at work
  np.testing.assert_array_equal(
      made.apply(variables, x), made.apply(variables, x))


def test_the_dtype_of_the_computation(digits):
  table = schema.Own(kind='target', target='own_models:Training')
  made = make_problem.join(table, digits, 'bfloat16')
  assert made.module.module.dtype == jnp.bfloat16
  assert make_problem.join(table, digits).module.module.dtype is None
  with pytest.raises(LabError, match='dtype = "bfloat16": .*plain. takes no d'):
    make_problem.join(schema.Own(
        kind='target', target='own_models:plain'), digits, 'bfloat16')


def test_a_model_that_needs_lengths_is_given_whole_ones(digits):
  x = np.ones((9, 3, 2), np.float32)
  same = digits._replace(train=dataset_lib.Split(x, np.zeros(9, np.int32)))
  made = build('Told', same)._replace(needs_lengths=True)
  params, extra = made.init(0)
  np.testing.assert_allclose(
      made.outputs(params, extra, x),
      made.outputs(params, extra, x, np.full(9, 3)))
