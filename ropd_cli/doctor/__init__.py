"""``ropd doctor``: what works here, and what to do about what does not.

One file a section. A check is a small function of a ``Case`` that returns ``Check`` records; ``examine`` runs them
in order, and an error inside one of them becomes a line of its own and never ends the others.
"""
