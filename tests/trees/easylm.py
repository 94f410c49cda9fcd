"""EasyLM: `models/llama/llama_model.py`. A norm's scale is named `kernel`."""

from trees.leaf import at, mat, vec

BLOCK = {
    'attention_norm/kernel': vec(12), 'ffn_norm/kernel': vec(12),
    'attention/wq/kernel': mat((12, 24), 0),
    'attention/wk/kernel': mat((12, 8), 0),
    'attention/wv/kernel': mat((12, 8), 0),
    'attention/wo/kernel': mat((24, 12), 0),
    'feed_forward/w1/kernel': mat((12, 16), 0),
    'feed_forward/w2/kernel': mat((16, 12), 0),
    'feed_forward/w3/kernel': mat((12, 16), 0)}

TREES = {'llama': {
    'transformer/wte/embedding': mat((20, 12), 1),
    **at('transformer/h/0', BLOCK), **at('transformer/h/1', BLOCK),
    'transformer/ln_f/kernel': vec(12), 'lm_head/kernel': mat((12, 20), 0)}}
