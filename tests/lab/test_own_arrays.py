"""Arrays of a stranger, from files or a function: read, or one clear line."""

import io

import numpy as np
import pytest

from gradnorm_optax.lab import data, schema
from gradnorm_optax.lab.errors import LabError

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
  return data.load(schema.Data(
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
    ('a.npz', saved(x=OBJECTS, y=Y), r'holds Python objects .*np\.array\(value'),
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
    data.load(schema.Data(source='file', path=str(tmp_path / name), **keys))
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
      data.load(schema.Data(source='function', target=f'{HERE}:{name}'))


def test_what_a_function_raises_is_left_to_be_seen():
  with pytest.raises(ZeroDivisionError, match='of my own') as found:
    call(ZeroDivisionError('of my own'))
  assert found.traceback[-1].name == 'given'


def test_arrays_of_other_packages():
  import pandas
  from scipy import sparse
  want = call((X, Y)).test.x
  frame = pandas.DataFrame(X, columns=['first', 'second'])
  np.testing.assert_array_equal(
      call((frame, pandas.Series(Y, index=Y))).test.x, want)
  with pytest.raises(LabError, match=r'csr_array; give their \.toarray\(\)'):
    call((sparse.csr_array(X), Y))
