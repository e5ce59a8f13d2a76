"""Starts MiniStack with every mend that was not left out; address, port and folders are its own variables."""

import argparse
import importlib.metadata
import os
import sys

from . import alarms, buckets, invocations, lambda_functions, nested_stacks, queries, tables  # noqa: F401  (each registers its mends)
from .registry import MENDS, MINISTACK_VERSION, MendDoesNotFit, summary


def main() -> None:
    arguments = argparse.ArgumentParser(prog="ministack_mended", description="MiniStack, mended while it starts.")
    arguments.add_argument(
        "--without", action="append", default=[], metavar="MEND", choices=MENDS, help="leave this mend out (repeatable)"
    )
    arguments.add_argument("--list", action="store_true", help="name the mends and end")
    arguments.add_argument(
        "--any-version", action="store_true", help=f"run with a MiniStack other than {MINISTACK_VERSION} too"
    )
    options = arguments.parse_args()
    if options.list:
        for name in MENDS:
            print(f"{name:32} {summary(name)}")
        return

    version = importlib.metadata.version("ministack")
    if version != MINISTACK_VERSION and not options.any_version:
        sys.exit(
            f"ministack_mended: MiniStack {version} is installed, but the mends were written for {MINISTACK_VERSION}. "
            f"Install that one (requirements.txt), or pass --any-version and run canaries.py to see which still fit."
        )
    if not os.environ.get("AWS_ENDPOINT_URL"):
        sys.exit(
            "ministack_mended: set AWS_ENDPOINT_URL to this MiniStack's own address: its functions find it by that"
        )
    for name, apply in MENDS.items():
        if name in options.without:
            continue
        try:
            apply()
        except MendDoesNotFit as reason:
            sys.exit(f"ministack_mended: the mend {name} does not fit MiniStack {version}: {reason}")

    from ministack.app import main as serve

    sys.argv = [sys.argv[0]]  # MiniStack reads the command line as well
    serve()


if __name__ == "__main__":
    main()
