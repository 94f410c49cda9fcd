"""Starts one training run as real processes on this machine, and kills some."""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

COMMAND = (sys.executable, '-m', 'gradnorm_optax.lab.cli', 'train')


class Ended(NamedTuple):
  """Exit code, and what was printed."""

  code: int
  out: str
  err: str


class Running(NamedTuple):
  """One process and the file of what it prints on stderr."""

  process: subprocess.Popen[str]
  err: Any

  def end(self, timeout: float = 900) -> Ended:
    """Waits for its end; kills what does not end."""
    try:
      out, _ = self.process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
      self.err.close()
      raise
    finally:
      self.process.kill()
    with self.err:
      self.err.seek(0)
      return Ended(self.process.returncode, out, self.err.read())


def environment(devices: int) -> dict[str, str]:
  """That of a process with so many virtual devices."""
  kept = [flag for flag in os.environ.get('XLA_FLAGS', '').split()
          if 'device_count' not in flag]
  return {**os.environ, 'JAX_PLATFORMS': 'cpu',
          'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo',
          'XLA_FLAGS': ' '.join([*kept, '--xla_force_host_platform_device_count'
                                        f'={devices}'])}


def free_port() -> int:
  """A port of this machine that nobody listens at."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return int(free.getsockname()[1])


def start(file: pathlib.Path, folder: pathlib.Path, count: int, devices: int,
          options: Sequence[str] = ()) -> list[Running]:
  """Starts a run of `count` processes with `devices` each.

  `{process}` in an option stands for the number of the process.
  """
  port, found = free_port(), []
  for number in range(count):
    err = tempfile.TemporaryFile('w+')
    many = () if count == 1 else (
        '--distributed', '--coordinator', f'127.0.0.1:{port}', '--processes',
        str(count), '--process', str(number))
    found.append(Running(subprocess.Popen(
        [*COMMAND, str(file), '--out', str(folder), *many, *(
            one.replace('{process}', str(number)) for one in options)],
        env=environment(devices), stdout=subprocess.PIPE, stderr=err,
        text=True), err))
  return found


def run(file: pathlib.Path, folder: pathlib.Path, count: int, devices: int,
        options: Sequence[str] = ()) -> list[Ended]:
  """Runs to the end; what each process said."""
  return [one.end() for one in start(file, folder, count, devices, options)]
