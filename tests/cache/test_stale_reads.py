"""No process is given what an acknowledged change has made out of date, however they race."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.cache.stale_readers import THINGS, Truth
from tests.servers.stack import ROOT
from tests.servers.valkey import Valkey

PROCESSES = 4
READS = 400_000 if os.environ.get("TOOLSWARM_LONG") else 100_000


def test_nothing_is_out_of_date_50_ms_after_a_change_was_acknowledged(
    valkey: Valkey, cache_server: Valkey, tmp_path: Path
) -> None:
    (tmp_path / "urls").write_text(f"{valkey.url} {cache_server.url}")
    (tmp_path / "truth").write_bytes(bytes(THINGS * 24))
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.cache.stale_readers", str(tmp_path)),
                *(str(number), str(PROCESSES), str(READS // PROCESSES)),
            ],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]

    counted: Counter[str] = Counter()
    for process in processes:
        counted.update(json.loads(process.communicate()[0]))

    print(dict(counted))
    assert counted["stale"] == 0
    assert counted["reads"] >= READS
    assert counted["level_1"] > READS / 10
    assert counted["changes"] > 100
    assert max(Truth(tmp_path / "truth").read(thing)[1] for thing in range(THINGS)) > 3
