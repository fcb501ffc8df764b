"""What `ckptctl show` and `ckptctl diff` tell: the tensors of one checkpoint, or of two side by side.

From the ground up:

    listing      the tensors as rows, from the index alone
    slots, tree  the objects that hold them, an optimizer's slots under their variables
    elements     what is read from the shards
    statistics   min, max and the like, in bounded memory
    compare      what differs by the stored checksums; `difference` by the numbers
    printing     elements as numpy prints them
    render       tables and JSON

No TensorFlow is loaded for it, and numpy only where numbers are looked at.
"""
