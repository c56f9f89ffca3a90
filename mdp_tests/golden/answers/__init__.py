"""Answers of the four exchanges as others recorded them, and what they say, read by nothing of ours."""
