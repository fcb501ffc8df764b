"""TensorFlow's checkpoint formats, read without TensorFlow: TensorBundles (V2) and V1.

Everything read is taken for hostile: any bytes give a result or a `BundleError`, in bounded time and memory.

The rooms, from the ground up:

    source            how bytes are read
    coding, checksum  numbers, strings, CRC32C
    block, table      sorted keys and values, each block with its checksum
    dtypes, slices    what a tensor is made of
    entries, index    what a bundle says about its tensors
    structure         what that alone can prove or disprove
    strings, data     the bytes of tensors
    verification      all of it together, with several threads
    values, finite    the numbers themselves
    graph, step       which object holds which tensor; how far the trainer was
    v1, large_block   the format before
"""
