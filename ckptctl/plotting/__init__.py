"""Pictures of a directory of checkpoints, for `ckptctl plot`.

From the ground up:

    picture   what is shown: plain data, no matplotlib
    movement  how far each layer moved from one checkpoint to the next, read in bounded memory
    text      what can be written in a picture of what the disk holds
    draw      a figure of that: the one door to matplotlib
    page      the figure as SVG with words to hover for, and as a page of HTML
    output    the file, whole or not at all
"""
