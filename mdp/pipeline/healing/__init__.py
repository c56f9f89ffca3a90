"""What is wrong with what is stored, and how it is made whole: found, asked for again, judged anew, and proved.

Not here: collecting, judging and resampling themselves (``collect``, ``judge``, ``resampling``), telling Dagster
(``defs.healing``) or a person (``cli.heal``).
"""
