"""Experiments: one question each, put to the replay as rows that differ in one thing, with goals where there are any.

Who calls it: `capstan experiment`. Must not know: terminals, files of reports. `catalog` says which there are, `lab`
plays them, `findings` makes rows of figures with intervals, `pages` puts them into words.
"""
