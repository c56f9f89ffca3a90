"""What tests share: builders of rows and frames. Not here: fixtures, tests."""
