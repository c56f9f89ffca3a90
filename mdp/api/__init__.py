"""The service: buffers, history and what is known about both, over HTTP and as streams.

Not here: reading (``reading``), what a buffer is (``domain``), the process that serves (``cli.serve``).
"""
