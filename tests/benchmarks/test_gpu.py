import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu


def test_a_call_tells_a_stop_from_a_failure(tmp_path, monkeypatch, capsys):
    """With a stand-in for the training: two epochs a second, obeying SIGTERM as it does."""
    script = tmp_path / "training.py"
    script.write_text(
        "import json, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "print('a note', flush=True)\n"
        "for done in range(1, 1 + int(sys.argv[1])):\n"
        "    print(json.dumps({'progress': {'done': done, 'total': 9}}), flush=True)\n"
        "    time.sleep(0.5)\n"
        "sys.exit(int(sys.argv[2]))\n"
    )

    def standing_in(epochs, status):
        real = subprocess.Popen

        def popen(command, **kwargs):
            return real([sys.executable, str(script), str(epochs), str(status)], **kwargs)

        monkeypatch.setattr(gpu.subprocess, "Popen", popen)

    real = subprocess.Popen
    for (epochs, status), limits, expected in [
        ((60, 0), {"seconds": 0.8}, gpu.UNFINISHED),
        ((60, 0), {"seconds": 60, "epochs": 1}, gpu.UNFINISHED),
        ((0, 0), {"seconds": 60}, 0),
        ((0, 3), {"seconds": 60}, 3),
    ]:
        monkeypatch.setattr(gpu.subprocess, "Popen", real)
        standing_in(epochs, status)
        assert gpu.call(tmp_path, **limits) == expected
    assert "a note" in capsys.readouterr().out


@pytest.mark.slow
def test_the_dry_run_is_cut_and_finished():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--dry-run"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dry run: 2 calls, model of epoch 2" in done.stdout
    assert "resuming at step" in done.stdout
