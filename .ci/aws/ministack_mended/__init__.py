"""MiniStack, mended while it starts: what keeps it from running this project's templates as AWS does is put right.

    PYTHONPATH=.ci/aws python -m ministack_mended [--list] [--without MEND]... [--any-version]

`canaries.py` proves of each mend that it works, and that this MiniStack still needs it.
"""
