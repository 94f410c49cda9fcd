"""How libraries and projects name and lay out their parameters: one table.

A pattern has one letter for each axis of an array, layer axes left out:
`i` fan-in, `o` output, `s` a stack inside the layer (each expert is a block of
its own), `v` an axis of a vector (a bias, a scale). A rule counts where its
names match the last segments of the path and its pattern has the array's rank:
the same name may stand for a fused and for a plain projection, and a layer axis
nobody named changes the rank, so that it is found and not taken for another.
"""

import dataclasses
import fnmatch
from typing import NamedTuple


class Rule(NamedTuple):
  """The axes of the arrays that a name stands for."""

  names: tuple[str, ...]  # globs on the last segments of the path
  pattern: str
  # (name, axis): counts only if the fan-in is as large as that axis of the
  # array of that name beside it.
  like: tuple[str, int] | None = None
  sure: bool = False  # whatever the bias beside it says

  def matches(self, segments: tuple[str, ...]) -> bool:
    """Tells whether the names are those at the end of a path."""
    ends = segments[len(segments) - len(self.names):]
    return len(segments) >= len(self.names) and all(
        map(fnmatch.fnmatchcase, ends, self.names))


@dataclasses.dataclass(frozen=True)
class Convention:
  """What names say.

  Attributes:
    rules: In order; the first that counts wins.
    vectors: Names of arrays that count as rank 1 whatever their shape.
    matrices: Names of arrays whose outputs lie at one end (see `outputs`);
      where no rule counts, the bias beside them, or the shape of a convolution,
      tells how many.
    bias: Name of the bias beside a matrix.
    outputs: 'last' or 'first': where a matrix has its outputs.
    stacked: Globs on the path of arrays with layer axes, and how many.
    certain: Whether a matrix about which nothing else is known has its outputs
      at the end: so it is of a single layer that is at hand.
  """

  rules: tuple[Rule, ...] = ()
  vectors: frozenset[str] = frozenset()
  matrices: frozenset[str] = frozenset()
  bias: str = 'bias'
  outputs: str = 'last'
  stacked: tuple[tuple[str, int], ...] = ()
  certain: bool = False

  def knows(self, name: str) -> bool:
    """Tells whether this is a name of parameters, not of modules."""
    return name in self.vectors or name in self.matrices or any(
        rule.names == (name,) for rule in self.rules)

  def named(self, path: str) -> list[Rule]:
    """Returns the rules that match a path, in order."""
    segments = tuple(path.split('/'))
    return [rule for rule in self.rules if rule.matches(segments)]


def _rules(*rows: str) -> tuple[Rule, ...]:
  """Reads rows `names pattern pattern ...`, with `{one,another}` in names."""
  return tuple(
      Rule(tuple(names.split('/')), pattern.rstrip('!'),
           sure=pattern.endswith('!'))
      for braced, *patterns in map(str.split, rows)
      for names in _expand(braced) for pattern in patterns)


def _expand(names: str) -> list[str]:
  head, brace, rest = names.partition('{')
  inner, _, tail = rest.partition('}')
  return [names] if not brace else [
      head + word + end for word in inner.split(',') for end in _expand(tail)]


_HEADS = _rules('{query,key,value}/kernel ioo', 'out/kernel iio')
_GEMMA = _rules(
    '{q_einsum,k_einsum}/w oio', '{kv_einsum,qkv_einsum}/w ooio',
    'attn_vec_einsum/w iio', '{linear,linear/w} io sio',
    '{per_layer_input_projection,per_layer_model_projection}/w ioo',
    'w io', 'lora/a io iio', 'lora/b io ioo iooo',
    '{per_layer_input_embedding,per_layer_embeddings} ooi',
    'input_embedding oi', 'prediction_coefs ioo', 'correction_coefs io')

CONVENTIONS: dict[str, Convention] = {
    'flax': Convention(
        _HEADS + _rules('{kernel,lora_a,lora_b} io', 'embedding oi'),
        frozenset({
            'bias', 'scale',
            # lengths that `gradnorm_optax.linen` and `nnx` keep beside weights
            'kernel_g', 'kernel_log_g', 'embedding_g', 'embedding_log_g'}),
        frozenset({'kernel'})),
    'haiku': Convention(
        _rules('w io', 'w_i io', 'w_h io', 'embeddings oi'),
        frozenset({'b', 'scale', 'offset'}), frozenset({'w'}), 'b'),
    'equinox': Convention(
        _rules('weight oi', 'weight_ih oi', 'weight_hh oi'),
        frozenset({'bias', 'bias_n'}), frozenset({'weight'}),
        outputs='first'),
    'maxtext': Convention(
        _HEADS + _rules(
            '{wq_b,wkv_b}/kernel ioo', 'qkv_proj/kernel ioo iooo',
            'o_a_proj/kernel sio', 'wi/kernel ioo', 'conv1d/kernel iio',
            'embedding/kernel iiio', 'kernel io', '{wi,wi_0,wi_1,wo} sio',
            '{wi,wi_0,wi_1,wo}_bias sv', 'per_expert_scale s', 'w io',
            'embedding oi', 'pos_embedding ooi', 'bias v vv vvv',
            '{scale,sinks,A_log,dt_bias} v'),
        stacked=(
            ('*scanned_blocks/local_layers/*', 2), ('*scanned_blocks/*', 1),
            ('*layers/[!0-9]*', 1), ('*layers_per_stage/*', 1),
            ('*layers_outside_pipeline/*', 1))),
    't5x': Convention(
        _HEADS + _rules(
            'expert/*/kernel sio', 'expert/*/bias sv',
            '{q_wi_fused,kv_fused,wi_fused}/kernel ioo',
            'o_wo_fused/kernel iio', 'kernel io', 'embedding oi',
            'rel_embedding vv', 'bias v vv', 'scale v'),
        stacked=(('*encoder/encoder/*', 1), ('*decoder/decoder/*', 1))),
    # PaliGemma's language model has Gemma's names; its gating einsum is always
    # (2, in, out).
    'big_vision': Convention(
        _HEADS + _rules(
            'pos_embedding ooi', '{cls,probe} vvv', '{t,b} v', 'bias v vv',
            'scale v', 'kernel iiio io', 'embedding oi', 'gating_einsum oio'
        ) + _GEMMA,
        stacked=(('*encoderblock/*', 1), ('*layers/[!0-9]*', 1))),
    # The version does not tell where the gating einsum has its fan-in; the size
    # of the linear map back to the features does.
    'gemma': Convention(
        tuple(Rule(('gating_einsum', *end), pattern, ('/'.join(
            ('linear', *end)), -1)) for end in ((), ('w',))
              for pattern in ('oio', 'ooi', 'soio', 'sooi')) + _GEMMA + _rules(
            '{scale,router_scale,per_expert_scale,correct_output_scale} v',
            'skip_scale v')),
    'keras': Convention(
        _rules(
            '{*depthwise*,*dwconv*,*conv_dw*,*_dw}/kernel ioo iioo',
            'depthwise_kernel ioo iioo',
            '{*conv*_transpose*,*deconv*}/kernel ioi iioi iiioi',
            '*gru*/{kernel,recurrent_kernel} io!', '*gru*/bias vv',
            '*conv*/{pointwise_kernel,recurrent_kernel} iio iiio iiiio',
            '*conv*/lora_kernel_a iio iiio iiiio',
            '{query,key,value}/lora_kernel_a ioo',
            'attention_output/lora_kernel_a iio',
            '{kernel,recurrent_kernel,lora_kernel_a,lora_kernel_b} io',
            '{lora_embeddings_b,reverse_embeddings} io',
            '{embeddings,position_embeddings,lora_embeddings_a} oi'),
        frozenset({'bias', 'gamma', 'beta', 'scale', 'alpha'}),
        frozenset({'kernel'})),
    'levanter': Convention(
        _rules(
            '{q_proj,k_proj,v_proj}/weight ooi oooi', 'o_proj/weight oii',
            '{gate_proj,up_proj,down_proj,gate,lm_head}/weight oi',
            'experts/{w1,w2,w3}/weight sio', 'c_attn/weight iooo',
            'c_fc/weight io', 'c_proj/weight io iio', '*embeddings/weight oi',
            'weight v', 'bias v vv vvv'),
        stacked=(('*/stacked/*', 1),)),
}
# What the modules wrap is one layer; nothing is stacked there.
CONVENTIONS['flax layer'] = dataclasses.replace(
    CONVENTIONS['flax'], certain=True)
