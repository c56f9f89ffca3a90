"""The examples in the docstrings of the domain."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from mdp import domain

MODULES = [f"{domain.__name__}.{module.name}" for module in pkgutil.iter_modules(domain.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_is_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples_to_run():
    tried = {name: doctest.testmod(importlib.import_module(name)).attempted for name in MODULES}
    assert {name.rpartition(".")[2] for name, examples in tried.items() if examples} >= {
        "interval",
        "market",
        "timeframe",
    }
