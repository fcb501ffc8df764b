"""Pictures of a directory of checkpoints, for `ckptctl plot`.

From the ground up:

    picture   what is shown: plain data, no matplotlib
    movement  how far each layer moved from one checkpoint to the next, read in bounded memory
    text      what can be written in a picture of what the disk holds
    style     how things look
    ticks, heat, draw   a figure of that: the one door to matplotlib
    page      the figure as SVG that tells more where it is pointed at, and as a page of HTML
    output    the file, whole or not at all
    rendering all of it: a picture as the bytes of a file
"""
