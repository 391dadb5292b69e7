"""The blind preference study: `plan` and `build` make it, `server` collects the votes, `tally` counts them.

Imports go down this list: design, ranking, plan · ballots, box, page · build, server, tally.
"""
