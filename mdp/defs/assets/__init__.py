"""The software-defined assets, one module for each layer of the lineage."""
