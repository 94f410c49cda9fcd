"""What belongs to the whole process: XLA's threads, lost errors, leaving."""

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

ONE_THREAD = '--xla_cpu_multi_thread_eigen=false'
DEVICES = '--xla_force_host_platform_device_count'

Handler = Callable[[Any], bool]
_handlers: list[Handler] = []
_before: Any = None  # the hook that stood there first


def one_thread_per_trial() -> None:
  """Keeps XLA from spreading one small matrix over all cores.

  Trials run side by side, one per core; measured on two cores, that is twice
  as fast as sharing each matrix product. Must come before JAX starts; results
  hold the flags (`provenance.machine`).
  """
  flags = os.environ.get('XLA_FLAGS', '')
  if 'multi_thread_eigen' not in flags:
    os.environ['XLA_FLAGS'] = f'{flags} {ONE_THREAD}'.strip()


def settle(flags: str, settings: dict[str, Any]) -> None:
  """Gives JAX the flags and settings of another process, if it is not started.

  Args:
    flags: What `XLA_FLAGS` is there.
    settings: {name: value} of `jax.config`.
  """
  import jax
  count = getattr(jax.config, 'jax_num_cpu_devices')
  try:  # which JAX refuses once it has its devices
    jax.config.update('jax_num_cpu_devices', count + 1)
  except RuntimeError:
    return
  jax.config.update('jax_num_cpu_devices', count)
  os.environ['XLA_FLAGS'] = flags
  for name, value in settings.items():
    jax.config.update(name, value)


def on_the_processor() -> None:
  """Leaves accelerators to others, unless `JAX_PLATFORMS` asks for one."""
  import jax
  if 'JAX_PLATFORMS' not in os.environ:
    jax.config.update('jax_platforms', 'cpu')


def virtual_devices(count: int) -> None:
  """Gives JAX's CPU so many devices; must come before JAX starts.

  Nothing is changed where XLA_FLAGS says how many.
  """
  flags = os.environ.get('XLA_FLAGS', '')
  if count > 1 and DEVICES not in flags:
    os.environ['XLA_FLAGS'] = f'{flags} {DEVICES}={count}'.strip()
    os.environ['JAX_PLATFORMS'] = 'cpu'


def catch_unraisable(handler: Handler) -> Callable[[], None]:
  """Lets a handler see what is raised where nobody can catch it.

  Such as in the garbage collector, or in a thread that ends. The newest handler
  is asked first; one that returns True has dealt with it. `sys.unraisablehook`
  is set here alone.

  Args:
    handler: `handler(found)`, with what `sys.unraisablehook` is given.

  Returns:
    A function that takes the handler away again.
  """
  global _before
  if not _handlers:
    _before, sys.unraisablehook = sys.unraisablehook, _unraisable
  _handlers.append(handler)

  def end() -> None:
    _handlers.remove(handler)
    if not _handlers and sys.unraisablehook is _unraisable:
      sys.unraisablehook = _before

  return end


def _unraisable(found: Any) -> None:
  if not any(handler(found) for handler in reversed(_handlers)):
    _before(found)


def leave(code: int, message: str = '') -> NoReturn:
  """Ends the process at once, after a last line on stderr.

  For a command that failed: all is unwound, and threads in which XLA still
  compiles would crash an ordinary end. Threads of orbax that were still writing
  print their own errors, which go nowhere.
  """
  console = sys.stderr
  sys.stderr = open(os.devnull, 'w')
  console.write(message)
  sys.stdout.flush()
  console.flush()
  os._exit(code)
