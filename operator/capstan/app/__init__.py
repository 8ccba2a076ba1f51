"""The only place where objects meet: commands that put an adapter behind each port and run the rooms above.

Who calls it: `capstan.__main__`. One module per command, imported when its command is.
"""
