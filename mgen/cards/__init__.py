"""A judge's card: what it says of real, of broken and of senseless music, what it costs, and how it is fooled.

Takes judges as functions from `Notes` to `Judgement`; knows no particular reward or critic.
"""
