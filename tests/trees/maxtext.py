"""MaxText: `layers/attentions.py`, `attention_mla.py`, `linears.py`, `moe.py`.

Embed D, query heads H, key heads K, head size C, feed-forward F, vocabulary V,
layers L, experts E. `DenseGeneral` contracts its first axes.
"""

from trees.leaf import at, mat, scan, vec

D, H, K, C, F, V, L, E = 12, 6, 3, 4, 16, 20, 5, 7


def _attention(norm=False, bias=False):
  table = {
      'query/kernel': mat((D, H, C), 0), 'key/kernel': mat((D, K, C), 0),
      'value/kernel': mat((D, K, C), 0), 'out/kernel': mat((H, C, D), 0, 1)}
  if norm:
    table |= {'query_norm/scale': vec(C), 'key_norm/scale': vec(C)}
  if bias:
    table |= {'query/bias': vec(H, C), 'key/bias': vec(K, C),
              'value/bias': vec(K, C), 'out/bias': vec(D), 'sinks': vec(H)}
  return table


def _experts(bias=False, size=F):
  table = {
      'gate/kernel': mat((D, E), 0),
      'wi_0': mat((E, D, size), 1, stack=(0,)),
      'wi_1': mat((E, D, size), 1, stack=(0,)),
      'wo': mat((E, size, D), 1, stack=(0,))}
  if bias:
    table |= {'gate/bias': vec(E), 'wi_0_bias': vec(E, size, stack=(0,)),
              'wi_1_bias': vec(E, size, stack=(0,)),
              'wo_bias': vec(E, D, stack=(0,))}
  return table


def _norms(*names):
  return {f'{name}/scale': vec(D) for name in names}


def _around(decoder, head=True):
  table = at('decoder', decoder, _norms('decoder_norm'))
  table['token_embedder/embedding'] = mat((V, D), 1)
  if head:
    table['decoder/logits_dense/kernel'] = mat((D, V), 0)
  return table


MLP = {'wi_0/kernel': mat((D, F), 0), 'wi_1/kernel': mat((D, F), 0),
       'wo/kernel': mat((F, D), 0)}
FUSED_MLP = {'wi/kernel': mat((D, 2, F), 0), 'wo/kernel': mat((F, D), 0)}
FUSED_ATTENTION = {'qkv_proj/kernel': mat((D, H + 2 * K, C), 0),
                   'out/kernel': mat((H, C, D), 0, 1)}
# Q low rank 8, key-value low rank 9, query head 5, key and value head 11
LATENT = {
    'wq_a/kernel': mat((D, 8), 0), 'q_norm/scale': vec(8),
    'wq_b/kernel': mat((8, H, 5), 0), 'wkv_a/kernel': mat((D, 10), 0),
    'kv_norm/scale': vec(9), 'wkv_b/kernel': mat((9, H, 11), 0),
    'out/kernel': mat((H, C, D), 0, 1)}
INDEXER = {
    'wq_b/kernel': mat((8, H, C), 0), 'wk/kernel': mat((D, C), 0),
    'k_norm/scale': vec(C), 'k_norm/bias': vec(C),
    'weights_proj/kernel': mat((D, H), 0)}

_NORMS = _norms('pre_self_attention_layer_norm',
                'post_self_attention_layer_norm')
LLAMA = at('self_attention', _attention()) | at('mlp', MLP) | _NORMS
FUSED = at('self_attention', FUSED_ATTENTION) | at('mlp', FUSED_MLP) | _NORMS
GEMMA = (at('self_attention', _attention()) | at('mlp', MLP)
         | _norms('pre_self_attention_norm', 'pre_ffw_norm'))
GEMMA2 = {
    path: leaf for side in ('local', 'global') for path, leaf in (
        at(f'self_attention_{side}', _attention()) | at(f'mlp_{side}', MLP)
        | _norms(f'pre_self_attention_norm_{side}', f'pre_ffw_norm_{side}',
                 f'post_self_attention_norm_{side}', f'post_ffw_norm_{side}')
    ).items()}
GEMMA3 = (at('self_attention', _attention(norm=True)) | at('mlp', MLP)
          | _norms('pre_self_attention_norm', 'pre_ffw_norm',
                   'post_self_attention_norm', 'post_ffw_norm'))
MIXTRAL = (at('self_attention', _attention()) | at('MoeBlock_0', _experts())
           | _NORMS)
GPT_OSS = (at('GptOssAttention', _attention(bias=True))
           | at('GptOssMlp', _experts(bias=True)) | _NORMS)
QWEN = (at('self_attention', _attention(norm=True, bias=True))
        | at('mlp', MLP) | _NORMS)
GEMMA4 = (at('self_attention', _attention(norm=True))
          | at('mlp/moe_block/MoeBlock_0', _experts(),
               {'per_expert_scale': vec(E, stack=(0,))})
          | _norms('pre_self_attention_norm', 'pre_ffw_norm')
          | {'layer_scalar': vec(1)})
DEEPSEEK_DENSE = (
    at('self_attention', LATENT, at('indexer', INDEXER)) | at('mlp', MLP)
    | _NORMS)
DEEPSEEK_MOE = (
    at('self_attention', LATENT) | _NORMS
    | at('DeepSeekMoeBlock_0/MoeBlock_0', _experts(size=13),
         {'gate/bias': vec(E)})
    | at('DeepSeekMoeBlock_0/shared_experts', MLP))
GPT3 = {
    'pre_self_attention_norm/scale': vec(D),
    'pre_self_attention_norm/bias': vec(D),
    'self_attention/qkv_proj/kernel': mat((D, 3, H, C), 0),
    'self_attention/qkv_proj/bias': vec(3, H, C),
    'self_attention/out/kernel': mat((H, C, D), 0, 1),
    'self_attention/out/bias': vec(D),
    'mlp/mlp_layer_norm/scale': vec(D), 'mlp/mlp_layer_norm/bias': vec(D),
    'mlp/wi/kernel': mat((D, F), 0), 'mlp/wi/bias': vec(F),
    'mlp/wo/kernel': mat((F, D), 0), 'mlp/wo/bias': vec(D)}


def _both(name, layer, head=True):
  return {
      f'{name}, scanned': _around(at('layers', scan(layer, 1, L)), head),
      name: _around(at('layers_0', layer) | at('layers_1', layer), head)}


TREES = {
    **_both('llama', LLAMA), **_both('llama, fused', FUSED),
    **_both('gemma', GEMMA, head=False), **_both('mixtral', MIXTRAL),
    **_both('qwen', QWEN), **_both('gpt_oss, one by one', GPT_OSS),
    # a scan of local layers within the scan of blocks
    'gemma4, scanned': _around(
        at('scanned_blocks/local_layers', scan(scan(GEMMA4, 1, 2), 1, L))
        | at('scanned_blocks/global_layer', scan(GEMMA4, 1, L)), False),
    'gemma2, scanned': _around(at('layers', scan(GEMMA2, 1, L)), False),
    # layers that alternate are scanned as a block of named layers
    'gemma3, scanned': _around(
        at('layers', scan(at('layers_0', GEMMA3) | at('layers_1', GEMMA3),
                          1, L))
        | at('layers_remainder/layers_0', GEMMA3), False),
    'gpt_oss, scanned': _around(
        at('layers', scan(at('layers_0', GPT_OSS), 1, L))),
    'deepseek, scanned': _around(
        at('dense_layers', scan(DEEPSEEK_DENSE, 1, 2))
        | at('moe_layers', scan(DEEPSEEK_MOE, 1, L))),
    'deepseek': _around(
        at('dense_layers_0', DEEPSEEK_DENSE) | at('moe_layers_0', DEEPSEEK_MOE)
        | at('moe_layers_1', DEEPSEEK_MOE)),
    'gpt3, scanned': _around(
        at('layers', scan(GPT3, 1, L))
        | {'position_embedder/embedding': mat((14, D), 1),
           'decoder_norm/bias': vec(D)}, False),
}

# The same names with other layer axes: pipeline stages, or stages and repeats,
# come first; with `scan_layers_per_stage` the layers of a stage follow at 2.
UNTOLD = {
    'pipeline': _around(at('pipeline_module/layers', scan(LLAMA, 0, 2))),
    'pipeline, repeated': _around(
        at('pipeline_module/layers', scan(scan(LLAMA, 0, 2), 0, L))),
    'pipeline, scanned': _around(
        at('pipeline_module/layers/layers_per_stage',
           scan(scan(LLAMA, 1, L), 0, 2))),
    'llama, scanned at 0': _around(at('layers', scan(LLAMA, 0, L))),
    'mixtral, scanned at 0': _around(at('layers', scan(MIXTRAL, 0, L))),
}
