"""T5X: `examples/t5`, `examples/scalable_t5`; Flaxformer's experts.

Embed D, heads H, head size C, feed-forward F, vocabulary V, buckets B, layers
L, experts E. `rel_embedding` (heads, buckets) is a bias of the logits.
"""

from trees.leaf import at, mat, scan, vec

D, H, C, F, V, B, L, E = 12, 6, 4, 16, 20, 9, 5, 7

MLP = {'wi_0/kernel': mat((D, F), 0), 'wi_1/kernel': mat((D, F), 0),
       'wo/kernel': mat((F, D), 0)}
JOINED = {'query/kernel': mat((D, H * C), 0), 'key/kernel': mat((D, H * C), 0),
          'value/kernel': mat((D, H * C), 0), 'out/kernel': mat((H * C, D), 0)}
HEADED = {'query/kernel': mat((D, H, C), 0), 'key/kernel': mat((D, H, C), 0),
          'value/kernel': mat((D, H, C), 0), 'out/kernel': mat((H, C, D), 0, 1)}
RELPOS = {'relpos_bias/rel_embedding': vec(H, B)}
EXPERTS = {'router/router_weights/w/kernel': mat((D, E), 0),
           'expert/wi/kernel': mat((E, D, F), 1, stack=(0,)),
           'expert/wo/kernel': mat((E, F, D), 1, stack=(0,))}
# PaLM's block: one projection in, one out
FUSED = {'layer_norm/scale': vec(D), 'q_wi_fused/kernel': mat((D, H, 11), 0),
         'kv_fused/kernel': mat((D, 1, 8), 0),
         'o_wo_fused/kernel': mat((H, 7, D), 0, 1)}


def _norms(*names):
  return {f'{name}/scale': vec(D) for name in names}


def _encoder(attention, mlp=MLP):
  return (at('attention', attention) | at('mlp', mlp)
          | _norms('pre_attention_layer_norm', 'pre_mlp_layer_norm'))


def _decoder(attention):
  return (at('self_attention', attention) | at('mlp', MLP)
          | at('encoder_decoder_attention', attention)
          | _norms('pre_self_attention_layer_norm', 'pre_mlp_layer_norm',
                   'pre_cross_attention_layer_norm'))


def _around(encoder, decoder):
  return {
      'token_embedder/embedding': mat((V, D), 1),
      **at('encoder', encoder, _norms('encoder_norm')),
      **at('decoder', decoder, _norms('decoder_norm'),
           {'logits_dense/kernel': mat((D, V), 0)})}


TREES = {
    't5': _around(RELPOS | at('layers_0', _encoder(JOINED)),
                  RELPOS | at('layers_0', _decoder(JOINED))),
    'scalable_t5, scanned': _around(
        at('encoder', scan(_encoder(HEADED) | RELPOS, 1, L)),
        at('decoder', scan(_decoder(HEADED) | RELPOS, 1, L))),
    'scalable_t5': _around(at('layers_0', _encoder(HEADED) | RELPOS),
                           at('layers_0', _decoder(HEADED) | RELPOS)),
    'parallel decoder, scanned': _around(
        RELPOS | at('encoder', scan(_encoder(HEADED), 1, L)),
        RELPOS | at('decoder', scan(FUSED, 1, L))),
    'experts': _around(RELPOS | at('layers_0', _encoder(HEADED, EXPERTS)),
                       RELPOS | at('layers_0', _decoder(HEADED))),
    'experts, scanned': _around(
        RELPOS | at('encoder', scan(_encoder(HEADED, EXPERTS), 1, L)),
        RELPOS | at('decoder', scan(_decoder(HEADED), 1, L))),
}
