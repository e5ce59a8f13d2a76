"""What SAM built, for this machine and for the architecture that is deployed if nothing else is said."""

import os
import re
import shutil
import struct
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
# In an ELF file's head, what machine it is for.
MACHINES = {"x86_64": 62, "arm64": 183}
BUILDS = {".aws-sam/build": os.environ["ARCHITECTURE"], ".aws-sam/arm64": "arm64"}


@pytest.mark.parametrize("build", BUILDS)
def test_each_function_is_one_small_file_that_amazon_linux_2023_runs(build: str, tmp_path: Path) -> None:
    folders = sorted(file.parent for file in (CHECKOUT / build).glob("*Stack/*/bootstrap"))
    functions = ["BranchCollector", "Lake", "SaleCollector", "SalespersonCollector"]
    assert [folder.name for folder in folders] == functions
    print()
    for folder in folders:
        assert [file.name for file in folder.iterdir()] == ["bootstrap"]
        assert os.access(folder / "bootstrap", os.X_OK)
        content = (folder / "bootstrap").read_bytes()
        assert struct.unpack_from("<H", content, 18) == (MACHINES[BUILDS[build]],), folder
        # Amazon Linux 2023 has glibc 2.34.
        versions = [int(version) for version in re.findall(rb"GLIBC_2\.(\d+)", content)]
        assert 0 < max(versions) <= 34, folder
        zipped = Path(shutil.make_archive(str(tmp_path / folder.name), "zip", folder)).stat().st_size
        assert zipped < 10_000_000, folder
        print(f"{BUILDS[build]} {folder.name}: {len(content) / 1e6:.2f} MB, zip {zipped / 1e6:.2f} MB")
