"""big_vision: `models/vit.py`, `two_towers.py`, `ppp/gemma.py`, `bit.py`.

Width D, heads H, key heads K, head size C, feed-forward F, vocabulary V, layers
L, patches P, classes Y. Layers are scanned along axis 0.
"""

from trees.leaf import at, mat, scan, vec

D, H, K, C, F, V, L, P, Y = 12, 6, 2, 4, 16, 20, 5, 9, 10

_LAYER_NORM = {'scale': vec(D), 'bias': vec(D)}
ATTENTION = {
    **{f'{name}/kernel': mat((D, H, C), 0) for name in ('query', 'key',
                                                        'value')},
    **{f'{name}/bias': vec(H, C) for name in ('query', 'key', 'value')},
    'out/kernel': mat((H, C, D), 0, 1), 'out/bias': vec(D)}
MLP = {'Dense_0/kernel': mat((D, F), 0), 'Dense_0/bias': vec(F),
       'Dense_1/kernel': mat((F, D), 0), 'Dense_1/bias': vec(D)}
BLOCK = {
    **at('LayerNorm_0', _LAYER_NORM),
    **at('MultiHeadDotProductAttention_0', ATTENTION),
    **at('LayerNorm_1', _LAYER_NORM), **at('MlpBlock_0', MLP)}
POOL = {
    'probe': vec(1, 1, D), **at('MultiHeadDotProductAttention_0', ATTENTION),
    **at('LayerNorm_0', _LAYER_NORM), **at('MlpBlock_0', MLP)}


def _blocks(scanned):
  if scanned:
    return at('encoderblock', scan(BLOCK, 0, L))
  return at('encoderblock_0', BLOCK) | at('encoderblock_1', BLOCK)


def _vit(scanned, pool=True):
  return {
      'embedding/kernel': mat((2, 2, 3, D), 0, 1, 2), 'embedding/bias': vec(D),
      'pos_embedding': mat((1, P, D), 2),
      **(at('MAPHead_0', POOL) if pool else {'cls': vec(1, 1, D)}),
      **at('Transformer', _blocks(scanned), at('encoder_norm', _LAYER_NORM)),
      'head/kernel': mat((D, Y), 0), 'head/bias': vec(Y)}


def _text(scanned):
  return {
      'Embed_0/embedding': mat((V, D), 1), 'pos_embedding': mat((1, 8, D), 2),
      **at('Encoder_0', _blocks(scanned), at('encoder_norm', _LAYER_NORM)),
      'head/kernel': mat((D, Y), 0), 'head/bias': vec(Y)}


GEMMA = {
    'pre_attention_norm/scale': vec(D), 'pre_ffw_norm/scale': vec(D),
    'attn/q_einsum/w': mat((H, D, C), 1),
    'attn/kv_einsum/w': mat((2, K, D, C), 2),
    'attn/attn_vec_einsum/w': mat((H, C, D), 0, 1),
    'mlp/gating_einsum': mat((2, D, F), 1), 'mlp/linear': mat((F, D), 0)}


def _paligemma(scanned):
  layers = (at('layers', scan(GEMMA, 0, L)) if scanned
            else at('layers/0', GEMMA) | at('layers/1', GEMMA))
  return at('img', _vit(scanned, pool=False)) | at(
      'llm', layers, {'embedder/input_embedding': mat((V, D), 1),
                      'final_norm/scale': vec(D)})


def _mlp(width, hidden):
  return {
      'Dense_0/kernel': mat((width, hidden), 0), 'Dense_0/bias': vec(hidden),
      'Dense_1/kernel': mat((hidden, width), 0), 'Dense_1/bias': vec(width)}


_UNIT = {
    'conv1/kernel': mat((1, 1, 8, 4), 0, 1, 2), 'gn1/scale': vec(4),
    'gn1/bias': vec(4), 'conv2/kernel': mat((3, 3, 4, 4), 0, 1, 2),
    'conv_proj/kernel': mat((1, 1, 8, 16), 0, 1, 2)}

TREES = {
    'vit': _vit(False), 'vit, scanned': _vit(True),
    'vit, class token': _vit(False, pool=False),
    'two towers, scanned': {**at('img', _vit(True)), **at('txt', _text(True)),
                            't': vec(1), 'b': vec(1)},
    'paligemma, scanned': _paligemma(True), 'paligemma': _paligemma(False),
    'mixer': {
        'stem/kernel': mat((2, 2, 3, D), 0, 1, 2), 'stem/bias': vec(D),
        **at('MixerBlock_0', at('LayerNorm_0', _LAYER_NORM),
             at('token_mixing', _mlp(P, 7)),
             at('channel_mixing', _mlp(D, F))),
        **at('pre_head_layer_norm', _LAYER_NORM)},
    'bit': {'conv_root/kernel': mat((7, 7, 3, 8), 0, 1, 2),
            'gn_root/scale': vec(8), **at('block1/unit1', _UNIT),
            'head/kernel': mat((16, Y), 0)},
}
