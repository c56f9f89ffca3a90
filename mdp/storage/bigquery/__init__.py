"""The central store: tables in BigQuery behind the port ``CandleStore``.

Google's libraries are imported when a store is opened, not before: they bring pandas and 100 MB along.
Not here: the local lake (``delta``), who is asked for credentials (``open_store`` and ``defs.resources``).
"""
