"""google-deepmind/gemma: `gm/nn/_modules.py`, `gemma3n`, `gemma4`, `peft`.

Features D, heads H, key heads K, head size C, hidden F, vocabulary V, experts
E. Whether `gating_einsum` is (2, D, F) or (2, F, D) depends on the model's
size; its neighbour `linear` (F, D) tells.
"""

from trees.leaf import at, mat, vec

D, H, K, C, F, V, E = 12, 6, 3, 4, 16, 20, 7

_NORMS = {'pre_attention_norm/scale': vec(D), 'pre_ffw_norm/scale': vec(D)}
_POST = {'post_attention_norm/scale': vec(D), 'post_ffw_norm/scale': vec(D)}
FUSED = {'qkv_einsum/w': mat((3, H, D, C), 2),
         'attn_vec_einsum/w': mat((H, C, D), 0, 1)}
GROUPED = {'q_einsum/w': mat((H, D, C), 1), 'kv_einsum/w': mat((2, K, D, C), 2),
           'attn_vec_einsum/w': mat((H, C, D), 0, 1)}
QK_NORMS = {'_query_norm/scale': vec(C), '_key_norm/scale': vec(C)}
MLP = {'gating_einsum': mat((2, D, F), 1), 'linear': mat((F, D), 0)}
TURNED = {'gating_einsum': mat((2, F, D), 2), 'linear': mat((F, D), 0)}
# as the first release and its checkpoints name them
OLD = {f'{name}/w': leaf for name, leaf in MLP.items()}
EXPERTS = {
    'router_logits/w': mat((D, E), 0), 'router_scale': vec(D),
    'per_expert_scale': vec(E),
    'gating_einsum/w': mat((E, 2, F, D), 3, stack=(0,)),
    'linear/w': mat((E, F, D), 1, stack=(0,))}
PER_LAYER = {'per_layer_input_gate/w': mat((D, 5), 0),
             'per_layer_projection/w': mat((5, D), 0)}
ALTUP = {
    'laurel/linear_left/w': mat((D, 8), 0),
    'laurel/linear_right/w': mat((8, D), 0),
    'altup/correction_coefs': mat((3, 4), 0),
    'altup/prediction_coefs': mat((3, 4, 4), 0),
    'altup/correct_output_scale': vec(D),
    'altup/modality_router/w': mat((D, 3), 0)}
# rank 2 beside each weight: a (inputs, rank), b (rank, outputs)
LORA = {
    'attn/q_einsum/lora/a': mat((D, 2), 0),
    'attn/q_einsum/lora/b': mat((2, H, C), 0),
    'attn/kv_einsum/lora/a': mat((D, 2), 0),
    'attn/kv_einsum/lora/b': mat((2, 2, K, C), 0),
    'attn/attn_vec_einsum/lora/a': mat((H, C, 2), 0, 1),
    'attn/attn_vec_einsum/lora/b': mat((2, D), 0)}


def _around(*layers, **more):
  return {
      'embedder/input_embedding': mat((V, D), 1), 'final_norm/scale': vec(D),
      **{path: leaf for n, layer in enumerate(layers)
         for path, leaf in at(f'layer_{n}', layer).items()}, **more}


_GEMMA3 = (at('attn', GROUPED, QK_NORMS) | at('mlp', TURNED) | _NORMS | _POST)
_GEMMA4 = at('attn', {
    'q_einsum/w': mat((H, D, C), 1), 'k_einsum/w': mat((K, D, C), 1),
    'attn_vec_einsum/w': mat((H, C, D), 0, 1)})

TREES = {
    'gemma 2b': _around(at('attn', GROUPED) | at('mlp', MLP) | _NORMS),
    'gemma 7b': _around(at('attn', FUSED) | at('mlp', MLP) | _NORMS),
    'gemma 2b, first release': _around(
        at('attn', GROUPED) | at('mlp', OLD) | _NORMS),
    'gemma2 9b': _around(
        at('attn', GROUPED) | at('mlp', TURNED) | _NORMS | _POST),
    'gemma3': _around(_GEMMA3, _GEMMA3, **at('embedder', {
        'mm_input_projection/w': mat((9, D), 0),
        'mm_soft_embedding_norm/scale': vec(9)})),
    'gemma3, lora': _around(_GEMMA3 | LORA),
    'gemma3n': _around(_GEMMA3 | PER_LAYER | ALTUP, **at('embedder', {
        'per_layer_input_embedding': mat((V, 2, 5), 2),
        'per_layer_input_projection/w': mat((D, 2, 5), 0)})),
    'gemma4, experts': _around(
        _GEMMA4 | at('mlp', EXPERTS) | at('mlp2', TURNED) | _NORMS | _POST
        | PER_LAYER | {'skip_scale': vec(1)}, **at('embedder', {
            'per_layer_embeddings': mat((V, 2, 5), 2),
            'per_layer_model_projection/w': mat((D, 2, 5), 0)})),
}

# features as large as the hidden layer: nothing tells one layout from the other
UNTOLD = {'square': _around(
    at('mlp', {'gating_einsum': mat((2, D, D), 1), 'linear': mat((D, D), 0)}))}
