"""Assessment before commitment: are there rows enough, and which encoder is worth its time?

Comes in: labelled rows. Goes out: learning curve, savings with intervals, and the frontier of quality against time.
"""
