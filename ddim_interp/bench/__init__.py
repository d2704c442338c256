"""How fast is this machine with these networks, and how near its limit?

    forwards     one look at a batch: us, the machine's matrix peak, and diffusers if it is there
    films        a whole film: how long, how many looks, how much alike
    drafts       what a cheaper precision costs in the frames
    growth       how a film's time grows with frames, steps, keyframes and resolution
    processes    start-up and peak memory, of programs as users start them
    configs      networks that people run
    peer         diffusers, as a contestant
    race         the clock

Everything compared is timed in turns within one run, and medians are reported: other programs slow
all contestants alike, and ratios hold where seconds do not.
"""
