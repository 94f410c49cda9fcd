"""The text of the language-model study: the sources of Python's own library."""

import pathlib
import sysconfig


def write(path: pathlib.Path) -> None:
  """Writes the modules of Python's library, one after the other, into a file.

  Those that are files of its top folder (about 4.7 MB), by name. The text
  depends on the version of Python, which the results hold.
  """
  library = pathlib.Path(sysconfig.get_paths()['stdlib'])
  text = b'\n'.join(
      file.read_bytes() for file in sorted(library.glob('*.py')))
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(text)
