"""The program that has TensorFlow restore checkpoints, one after the other: `python -m ckptctl.restoring`.

It is a program and no part of the tool: nothing imports it. TensorFlow's reader may abort, hang, or take all
the memory there is over a checkpoint, so it is let loose in a process of its own; `ckptctl.restore` runs it.

    __main__   requests and replies, the limits of the process
    prove      which way a checkpoint is restored, and what is read apart from that
    objects    an object-based checkpoint: its tree, rebuilt and restored
    nodes      one object of the tree
    graphs     a name-based one with its `.meta`: the graph's own restore operation, in a session
    outcome    what fails, and what is not proven
    stored     what the files hold, as this project's own reader has it
"""
