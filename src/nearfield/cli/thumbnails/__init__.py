"""Small pictures of results in terminals that show pictures.

The protocols are written out here: term-image has no sixel and needs Pillow below 11, and textual-image has no iTerm2
and asks the terminal questions when it is imported.
"""
