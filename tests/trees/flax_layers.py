"""Layers of Flax itself whose layout a name alone does not tell."""

from trees.leaf import mat, scan, vec

TREES = {
    # DenseGeneral((3, 6, 4)): the bias has the shape of the outputs
    'fused attention': {
        'qkv/kernel': mat((12, 3, 6, 4), 0), 'qkv/bias': vec(3, 6, 4),
        'kv/kernel': mat((12, 2, 24), 0), 'kv/bias': vec(2, 24)},
    # Einsum((6, 12, 4), '...d,ndh->...nh')
    'einsum': {'q_einsum/kernel': mat((6, 12, 4), 1),
               'q_einsum/bias': vec(6, 4)},
    'einsum without bias': {'q_einsum/kernel': mat((6, 12, 4), 1)},
    # DenseGeneral(5, axis=-1, batch_dims=(0,)): a kernel for each of 3
    'batched dense': {'DenseGeneral_0/kernel': mat((3, 12, 5), 1, stack=(0,)),
                      'DenseGeneral_0/bias': vec(3, 5, stack=(0,))},
    'scanned dense': {f'layers/{path}': leaf for path, leaf in scan(
        {'Dense_0/kernel': mat((12, 16), 0), 'Dense_0/bias': vec(16)}, 0, 5
    ).items()},
    'scanned dense without bias': {
        'layers/Dense_0/kernel': mat((5, 12, 16), 1, stack=(0,))},
    'scanned query': {
        'layers/query/kernel': mat((5, 12, 6, 4), 1, stack=(0,)),
        'layers/query/bias': vec(5, 6, 4, stack=(0,)),
        'layers/LayerNorm_0/scale': vec(5, 12, stack=(0,))},
    'scanned convolution': {
        'layers/Conv_0/kernel': mat((5, 3, 3, 2, 4), 1, 2, 3, stack=(0,)),
        'layers/Conv_0/bias': vec(5, 4, stack=(0,))},
    'depthwise convolution': {
        'Conv_0/kernel': mat((3, 3, 1, 10), 0, 1, 2), 'Conv_0/bias': vec(10)},
    'transposed convolution': {
        'ConvTranspose_0/kernel': mat((3, 3, 2, 5), 0, 1, 2),
        'ConvTranspose_0/bias': vec(5)},
    'transposed convolution, transposed kernel': {
        'ConvTranspose_0/kernel': mat((3, 3, 5, 2), 0, 1, 3),
        'ConvTranspose_0/bias': vec(5)},
}
