"""The exchanges' WebSocket side: minutes and ticks pushed by the simulated clock, in each exchange's own words.

Not here: the REST side (the modules beside this folder), what candles there are (``history``, ``volatility``).
"""
