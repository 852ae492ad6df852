"""One server process with an HTTP port, for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http_calls import HttpProcess, http_address_in
from tests.running import ANY_PORT, server_process


@pytest.fixture(scope="session")
def http_process(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpProcess]:
    log = tmp_path_factory.mktemp("http") / "stderr.log"
    with server_process(bundle_folder, log, "--http", ANY_PORT) as running:
        yield HttpProcess(running.address, http_address_in(log), log)
