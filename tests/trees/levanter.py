"""Levanter: `models/llama.py`, `gpt2.py`, `mixtral.py` over Haliax's `Linear`.

Paths are those of the named arrays; the array itself lies one key below. Layers
are stacked along axis 0. `out_first` puts the outputs before the inputs.
"""

from trees.leaf import at, mat, scan, vec

D, K, G, C, F, V, L, E = 12, 3, 2, 4, 16, 20, 5, 7

LLAMA_ATTENTION = {
    'q_proj/weight': mat((K, G, C, D), 3), 'k_proj/weight': mat((K, C, D), 2),
    'v_proj/weight': mat((K, C, D), 2), 'o_proj/weight': mat((D, 6, C), 1, 2)}
NORMS = {'input_layernorm/weight': vec(D),
         'post_attention_layernorm/weight': vec(D)}
LLAMA = {
    **at('self_attn', LLAMA_ATTENTION), **NORMS,
    'mlp/gate_proj/weight': mat((F, D), 1),
    'mlp/up_proj/weight': mat((F, D), 1),
    'mlp/down_proj/weight': mat((D, F), 1)}
MIXTRAL = {
    **at('self_attn', LLAMA_ATTENTION), **NORMS,
    'block_sparse_moe/gate/weight': mat((E, D), 1),
    'block_sparse_moe/experts/w1/weight': mat((E, D, F), 1, stack=(0,)),
    'block_sparse_moe/experts/w2/weight': mat((E, F, D), 1, stack=(0,)),
    'block_sparse_moe/experts/w3/weight': mat((E, D, F), 1, stack=(0,))}
GPT2 = {
    'ln_1/weight': vec(D), 'ln_1/bias': vec(D),
    'attn/c_attn/weight': mat((D, 3, 6, C), 0),
    'attn/c_attn/bias': vec(3, 6, C),
    'attn/c_proj/weight': mat((6, C, D), 0, 1), 'attn/c_proj/bias': vec(D),
    'mlp/c_fc/weight': mat((D, F), 0), 'mlp/c_fc/bias': vec(F),
    'mlp/c_proj/weight': mat((F, D), 0), 'mlp/c_proj/bias': vec(D)}
LLAMA_ENDS = {'embeddings/token_embeddings/weight': mat((V, D), 1),
              'transformer/norm/weight': vec(D),
              'lm_head/weight': mat((V, D), 1)}

TREES = {
    'llama': LLAMA_ENDS | at('transformer/layers/stacked', scan(LLAMA, 0, L)),
    'llama, not stacked': LLAMA_ENDS | at('transformer/layers/blocks/0', LLAMA),
    'mixtral': LLAMA_ENDS | at('transformer/layers/stacked',
                               scan(MIXTRAL, 0, L)),
    'gpt2': {
        'embeddings/token_embeddings/weight': mat((V, D), 1),
        'embeddings/position_embeddings/weight': mat((9, D), 1),
        'transformer/ln_f/weight': vec(D), 'transformer/ln_f/bias': vec(D),
        **at('transformer/blocks/stacked', scan(GPT2, 0, L))},
}
