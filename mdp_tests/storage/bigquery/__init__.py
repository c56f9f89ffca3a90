"""The store in BigQuery: what it does beyond the promises of every store."""
