"""Arrays of a stranger, from files or a function: read, or one clear line."""

import io

import numpy as np
import pytest
from jax import numpy as jnp

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import preparation, sources, user_data
from gradnorm_optax.lab.data.raw import FREE, TEST
from gradnorm_optax.lab.support.errors import LabError

HERE = __name__
X, Y = np.arange(80.).reshape(40, 2), np.arange(40) % 2
GIVEN = {}  # what `given` returns


def given():
  found = GIVEN['value']
  if isinstance(found, Exception):
    raise found
  return found


def needy(folder):
  return folder


NOT_CALLABLE = 3


def call(value, **keys):
  GIVEN['value'] = value
  return sources.load(schema.Data(
      source='function', target=f'{HERE}:given', **keys))


def saved(*arrays, **named):
  file = io.BytesIO()
  if named:
    np.savez_compressed(file, **named)
  else:
    np.save(file, *arrays, allow_pickle=True)
  return file.getvalue()


WHOLE = saved(x=X, y=Y)
OBJECTS = np.array([{}, None], object)


@pytest.mark.parametrize('name, content, words', [
    ('a.npz', b'', 'damaged or cut short .*save it again'),
    ('a.npz', b'nothing of the kind', 'holds Python objects .or is no file of'),
    ('a.npz', WHOLE[:len(WHOLE) // 2], 'damaged or cut short'),
    ('a.npz', WHOLE[:60] + b'\0' * 20 + WHOLE[80:], 'damaged or cut short'),
    ('a.npz', saved(x=OBJECTS, y=Y), r'holds Python objects .*np\.array\('),
    ('a.npz', saved(X), r'one array, not an archive; save with np\.savez'),
    ('a.npz', saved(x=np.float64(3), y=Y),
     r'inputs must be an array .* not one value, 3\.0, of shape \(\)'),
    ('a.npz', saved(x=X, y=np.int64(3)), 'labels must be an array .* value, 3'),
    ('a.npy', b'', 'damaged or cut short'),
    ('a.npy', saved(X)[:200], 'damaged or cut short'),
    ('a.npy', saved(OBJECTS), 'holds Python objects'),
    ('a.npy', WHOLE, r'an archive, not one array; call it \.npz'),
    ('a.npy', saved(np.float64(3)), 'inputs must be .* not one value')])
def test_files_that_hold_no_arrays(tmp_path, name, content, words):
  (tmp_path / name).write_bytes(content)
  np.save(tmp_path / 'y.npy', Y)
  keys = {'labels': str(tmp_path / 'y.npy')} if name == 'a.npy' else {}
  with pytest.raises(LabError, match=words) as found:
    sources.load(schema.Data(source='file', path=str(tmp_path / name), **keys))
  assert str(found.value).startswith(str(tmp_path / name))
  assert '\n' not in str(found.value)


@pytest.mark.parametrize('value, words', [
    (None, r'given.* must return \(inputs, labels\).*, not None'),
    ((X,), 'must return .*, not 1 values'),
    ((X for _ in range(2)), 'must return .*, not generator'),
    ((3, 4), 'the inputs must be an array or a list .*, not int'),
    ((X, None), 'the labels must be an array or a list .*, not None'),
    (((row for row in X), Y), r'inputs .* not generator; give their list\('),
    ((X, map(str, Y)), r'labels .* not map; give their list\('),
    (([[[1], [2, 3]]] * 40, Y), 'the inputs are no array: .*inhomogeneous'),
])
def test_functions_that_return_no_arrays(value, words):
  with pytest.raises(LabError, match=words):
    call(value)


def test_functions_that_cannot_be_called():
  for name, words in (('needy', r'called without arg.*folder.*give them def'),
                      ('NOT_CALLABLE', 'is int, not a function')):
    with pytest.raises(LabError, match=f'{name}.* {words}'):
      sources.load(schema.Data(source='function', target=f'{HERE}:{name}'))


def test_what_a_function_raises_is_one_line_with_its_place():
  with pytest.raises(LabError, match=(
      r"given' raised ZeroDivisionError: of my own \(test_own_arrays\.py, "
      r'line \d+\)$')):
    call(ZeroDivisionError('of my own\nin two lines'))


def scaled(factor, shift=0.0):
  return X * factor + shift, Y


def test_functions_take_options():
  config = {'source': 'function', 'target': f'{HERE}:scaled'}
  one = sources.load(schema.Data(**config, options={'factor': 1}))
  two = sources.load(schema.Data(**config, options={'factor': -3, 'shift': 1}))
  np.testing.assert_allclose(two.train.x, -one.train.x, atol=1e-5)
  with pytest.raises(LabError, match=(
      r"scaled' is called with data.options \{'factr': 1\}: .*'factor'")):
    sources.load(schema.Data(**config, options={'factr': 1}))
  with pytest.raises(ValueError, match='options has no meaning with source'):
    schema.Data(options={'factor': 1})


HOT = np.eye(3)[np.arange(40) % 3]
STEPS = np.zeros((40, 5, 2)) + np.arange(40)[:, None, None]
PICTURES = np.zeros((40, 6, 6, 1)) + np.arange(40)[:, None, None, None]


@pytest.mark.parametrize('value, words', [
    ((X, HOT), r'given: labels have shape \(40, 3\), not \(40,\): one class '
     r'for each example; they are one-hot: give labels\.argmax\(-1\)'),
    ((STEPS, HOT[:, None].repeat(5, 1)), r'labels have shape \(40, 5, 3\), not '
     r'\(40,\) or \(40, 5\).*each of the 5 steps; they are one-hot: give'),
    ((np.zeros((40, 3)), HOT.astype(bool)), 'they are one-hot: give'),
    ((X, np.arange(120).reshape(40, 3)), r'labels have shape \(40, 3\), not .*'
     'predict = "number" to predict 3 numbers'),
    ((X, [['a', 'b', 'c']] * 40), r'labels have shape \(40, 3\), not \(40,\)'),
    ((PICTURES, np.arange(240).reshape(40, 6) % 2), r'shape \(40, 6\), not'),
    ((X, np.array([[0] * (1 + i % 3) for i in range(40)], object)),
     'example 0: a label of several values, list')])
def test_classes_of_another_shape(value, words):
  with pytest.raises(LabError, match=words):
    call(value)


def test_numbers_of_another_shape():
  with pytest.raises(LabError, match=r'shape \(40, 3, 2\), not .* or \(40, k'):
    call((X, np.zeros((40, 3, 2))), predict='number')


@pytest.mark.parametrize('keys', [{}, {'predict': 'number'}])
def test_labels_in_a_column_are_labels(keys):
  want = call((X, Y), **keys)
  for y in (Y[:, None], [[one] for one in Y], Y[:, None].astype(float)):
    found = call((X, y), **keys)
    np.testing.assert_array_equal(found.test.y, want.test.y)
    assert 'labels of shape (40, 1) taken as (40,)' in found.description
  # Also where the inputs are one column.
  assert call((X[:, :1], Y[:, None]), **keys).test.y.shape == (6,)


def test_an_unlabeled_number_beside_short_sequences():
  lengths = [1 + i % 3 for i in range(40)]
  y = np.arange(80.).reshape(40, 2)
  y[0, 1] = np.nan  # not the padding of a sequence of one step
  with pytest.raises(LabError, match=r'example 0: no label \(1 such'):
    call(([np.zeros((n, 2)) for n in lengths], y), predict='number')


def test_lists_of_one_length_as_labels_of_positions(tmp_path):
  import pandas
  rows = [[i, 2. * i, 3. * i] for i in range(40)]
  path = tmp_path / 'lists.parquet'
  pandas.DataFrame({'x': rows, 'y': [[i % 2] * 3 for i in range(40)]}
                   ).to_parquet(path)
  found = sources.load(schema.Data(source='file', path=str(path)))
  assert found.train.y.shape == (28, 3) and found.objective.positions


def test_arrays_of_other_packages():
  import pandas
  from scipy import sparse
  want = call((X, Y)).test.x
  frame = pandas.DataFrame(X, columns=['first', 'second'])
  for labels in (pandas.Series(Y, index=Y), Y, list(Y)):
    np.testing.assert_array_equal(call((frame, labels)).test.x, want)
  with pytest.raises(LabError, match=r'csr_array; give their \.toarray\(\)'):
    call((sparse.csr_array(X), Y))


def test_a_table_with_its_labels():
  import pandas
  frame = pandas.DataFrame({'size': X[:, 0], 'town': ['Oslo', None] * 20})
  with pytest.raises(LabError, match="given: row 0, column 'town': 'Oslo' is"):
    call((frame, Y))
  keys = {'categorical': ('town',), 'missing': 'mean', 'ignore': ('y',)}
  found = call((frame.assign(y=Y), Y), **keys)
  assert '20 missing names filled' in found.description
  assert '(town 20)' in found.description and found.train.x.shape == (28, 2)
  with pytest.raises(LabError, match="hold the label's column 'y' too; drop"):
    call((frame.assign(y=Y), Y))
  with pytest.raises(LabError, match="hold the label's column 'kind' too"):
    call((frame.assign(kind=Y), pandas.Series(Y, name='kind')))
  with pytest.raises(LabError, match=r'give labels\.loc\[inputs\.index\]'):
    call((frame[['size']], pandas.Series(Y)[::-1]))
  for key in ('ignore', 'categorical'):
    with pytest.raises(LabError, match=f'{key} names columns, and .* ndarray'):
      call((X, Y), **{key: ('town',)})


def test_cells_that_are_hidden_or_none():
  holes = X.astype(object)
  holes[3, 1] = None
  for x in (holes, holes.tolist(), np.ma.masked_equal(X, 7)):
    with pytest.raises(LabError, match='example 3, entry 1: missing .*1 such'):
      call((x, Y))
  labels = np.ma.masked_array(Y, np.arange(40) == 3)
  with pytest.raises(LabError, match=r'example 3: no label \(1 such row\)'):
    call((X, labels))
  holes[3, 1] = 'two'
  with pytest.raises(LabError, match="example 3, entry 1: 'two' is no number"):
    call((holes, Y))


def test_symbols_that_cannot_be_numbered():
  with pytest.raises(LabError, match='the symbol 4294967299 is too large'):
    call(([[1, 2 ** 32 + 3]] * 40, Y), symbols=True)
  with pytest.raises(LabError, match='example 1: the symbol 3 is no text'):
    call(([['a'], ['a', 3]] * 20, Y))


def test_one_number_for_each_example():
  assert call((X[:, 0], Y)).train.x.shape == (28, 1)


def test_whole_numbers_of_pictures_are_standardized_alike():
  pictures = np.random.default_rng(0).integers(256, size=(40, 4, 5, 3))
  few = call((pictures.astype(np.uint8), Y))
  np.testing.assert_allclose(
      few.test.x, call((pictures * 1., Y)).test.x, atol=1e-5)
  assert 'pictures of 4x5x3' in few.description and few.symbols is None


def test_bfloat16_is_a_number():
  """NumPy alone does not know it as one."""
  small = X.astype(jnp.bfloat16)
  found = call((small, small[:, 0]), predict='number')
  wide = call((small.astype(float), X[:, 0]), predict='number')
  np.testing.assert_allclose(found.test.x, wide.test.x, rtol=1e-5)
  np.testing.assert_allclose(found.test.y, wide.test.y, rtol=1e-5)
  gone = small[:, 0].copy()
  gone[3] = np.nan
  with pytest.raises(LabError, match='example 3: no label'):
    call((small, gone), predict='number')
  ragged = [np.ones(1 + i % 3, jnp.bfloat16) for i in range(40)]
  assert call((ragged, Y)).train.x.shape[1:] == (3, 1)


@pytest.mark.parametrize('odd, words', [
    ([1., None], r'example 4, entry 1: missing .*data.missing'),
    ([1., {}], r'example 4: not a sequence of numbers: .*dict'),
])
def test_cells_of_sequences(odd, words):
  ragged = [[1.] * (1 + i % 3) for i in range(40)]
  ragged[4] = odd
  with pytest.raises(LabError, match=words):
    call((ragged, Y))


def test_lengths_beside_sequences_of_their_own():
  ragged = [[1.] * (1 + i % 3) for i in range(40)]
  with pytest.raises(LabError, match='leave the lengths out'):
    call((ragged, Y, np.ones(40, int)))
  with pytest.raises(LabError, match='lengths must be 40 integers'):
    call((X, Y, np.array([], object)))


def test_classes_without_a_training_example_are_told():
  GIVEN['value'] = X, Y
  raw = user_data.read(schema.Data(source='function', target=f'{HERE}:given'))
  y = np.where(np.arange(40) > 36, 2, Y)
  found = preparation.finish(raw._replace(
      y=y, part=np.repeat([FREE, TEST], [35, 5])), schema.Data())
  assert '1 of 3 classes without a training example' in found.description


def test_a_batch_larger_than_the_training_part_is_told():
  config = schema.Data(source='iris')
  assert 'batches hold 102 examples, not 120' in sources.load(
      config, schema.Train(batch_size=120, accumulate=6)).description
  with pytest.raises(LabError, match='accumulate = 120: .* the 104 training'):
    sources.load(config, schema.Train(batch_size=120, accumulate=120))
