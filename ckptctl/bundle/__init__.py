"""TensorFlow's checkpoint formats, read without TensorFlow: TensorBundles (V2) and V1.

Everything read is taken for hostile: any bytes give a result or a `BundleError`, in bounded time and memory.
"""
