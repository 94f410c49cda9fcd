"""Keras 3: `{v.path: v.value for v in model.trainable_variables}`.

Depthwise kernels (h, w, in, multiplier) and transposed ones (h, w, out, in)
have the name and rank of a convolution's (h, w, in, out); only the layer's name
or the size of the bias tells them apart.
"""

from trees.leaf import at, mat, vec

CONV = {'kernel': mat((3, 3, 2, 5), 0, 1, 2), 'bias': vec(5)}
NORM = {'gamma': vec(5), 'beta': vec(5)}
DEPTHWISE = {'kernel': mat((3, 3, 5, 2), 0, 1), 'bias': vec(10)}
SEPARABLE = {'depthwise_kernel': mat((3, 3, 10, 2), 0, 1),
             'pointwise_kernel': mat((1, 1, 20, 7), 0, 1, 2), 'bias': vec(7)}
TRANSPOSED = {'kernel': mat((3, 3, 4, 7), 0, 1, 3), 'bias': vec(4)}
DENSE = {'kernel': mat((7, 6), 0), 'bias': vec(6)}
# embed 12, heads 6, head size 4; EinsumDense 'abc,cde->abde', 'abcd,cde->abe'
ATTENTION = {
    'query/kernel': mat((12, 6, 4), 0), 'query/bias': vec(6, 4),
    'key/kernel': mat((12, 3, 4), 0), 'key/bias': vec(3, 4),
    'value/kernel': mat((12, 3, 4), 0), 'value/bias': vec(3, 4),
    'attention_output/kernel': mat((6, 4, 12), 0, 1),
    'attention_output/bias': vec(12)}
RECURRENT = {'kernel': mat((7, 16), 0), 'recurrent_kernel': mat((4, 16), 0),
             'bias': vec(16)}
GRU = {'kernel': mat((7, 12), 0), 'recurrent_kernel': mat((4, 12), 0),
       'bias': vec(2, 12)}

TREES = {
    'mobile convolutions': {
        **at('conv2d', CONV), **at('batch_normalization', NORM),
        **at('depthwise_conv2d', DEPTHWISE),
        'depthwise_conv2d_1/kernel': mat((3, 3, 5, 2), 0, 1),
        'conv_dw_1/kernel': mat((3, 3, 5, 1), 0, 1),
        'block1a_dwconv/kernel': mat((5, 5, 6, 1), 0, 1),
        'block_1_depthwise/kernel': mat((3, 3, 6, 1), 0, 1),
        'expanded_conv_depthwise/kernel': mat((3, 3, 6, 1), 0, 1),
        'block4a_dwconv2/kernel': mat((3, 3, 6, 1), 0, 1),
        'block_1_project/kernel': mat((1, 1, 6, 4), 0, 1, 2),
        **at('separable_conv2d', SEPARABLE), **at('dense', DENSE),
        'depthwise_conv1d/kernel': mat((3, 5, 2), 0)},
    'autoencoder': {
        **at('sequential/conv2d', CONV),
        **at('sequential/conv2d_transpose', TRANSPOSED),
        'sequential/conv1d_transpose/kernel': mat((3, 4, 7), 0, 2),
        'sequential/conv3d/kernel': mat((3, 3, 3, 2, 5), 0, 1, 2, 3)},
    'transformer': {
        'token_and_position/embedding/embeddings': mat((20, 12), 1),
        'position_embedding/position_embeddings': mat((9, 12), 1),
        **at('block/multi_head_attention', ATTENTION),
        **at('block/layer_normalization', {'gamma': vec(12),
                                           'beta': vec(12)}),
        'block/rms_normalization/scale': vec(12),
        **at('block/dense', {'kernel': mat((12, 16), 0), 'bias': vec(16)}),
        'reversible_embedding/reverse_embeddings': mat((12, 20), 0)},
    'recurrent': {**at('lstm/lstm_cell', RECURRENT), **at('gru/gru_cell', GRU),
                  **at('bidirectional/forward_lstm/lstm_cell', RECURRENT),
                  **at('conv_lstm2d/conv_lstm_cell', {
                      'kernel': mat((3, 3, 2, 16), 0, 1, 2),
                      'recurrent_kernel': mat((3, 3, 4, 16), 0, 1, 2),
                      'bias': vec(16)})},
    # 'abc,cde->abde': the bias tells
    'einsum': {'einsum_dense/kernel': mat((12, 6, 4), 0),
               'einsum_dense/bias': vec(6, 4)},
    'lora': {
        'dense/lora_kernel_a': mat((7, 2), 0),
        'dense/lora_kernel_b': mat((2, 6), 0),
        'conv2d/lora_kernel_a': mat((3, 3, 5, 2), 0, 1, 2),
        'conv2d/lora_kernel_b': mat((2, 4), 0),
        'embedding/lora_embeddings_a': mat((20, 2), 1),
        'embedding/lora_embeddings_b': mat((2, 12), 0),
        'attention/query/lora_kernel_a': mat((12, 6, 2), 0),
        'attention/query/lora_kernel_b': mat((2, 4), 0)},
}

# What neither the name of the layer nor a bias tells.
UNTOLD = {
    # KerasHub's Gemma: 'btd,ndh->btnh' under the usual names
    'query with the heads first': {
        'attention/query/kernel': mat((6, 12, 4), 1),
        'attention/key/kernel': mat((3, 12, 4), 1),
        'attention/value/kernel': mat((3, 12, 4), 1),
        'attention/attention_output/kernel': mat((6, 4, 12), 0, 1)},
    'einsum without bias': {'einsum_dense/kernel': mat((12, 6, 4), 0)},
    'renamed depthwise': {'mix/kernel': mat((3, 3, 5, 2), 0, 1),
                          'mix/bias': vec(10)},
    'renamed transposed': {'up/kernel': mat((3, 3, 4, 7), 0, 1, 3),
                           'up/bias': vec(4)},
    'a list of variables': {'0': mat((7, 6), 0), '1': vec(6),
                            '2': mat((3, 3, 2, 5), 0, 1, 2)},
}
