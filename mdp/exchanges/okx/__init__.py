"""OKX as a source of candles: ``client``, ``parse``, ``pager``, ``source``.

Not here: what the exchanges share (the folder above).
"""
