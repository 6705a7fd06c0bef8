"""What a training uses of the machine, for MLflow's page "System metrics"."""

import contextlib
from typing import Any


class Machine:
    """Processor, memory and GPUs, since the last question.

    Sampled with the other figures of an epoch instead of in a thread of MLflow's: so they are
    kept when the store is away, and nothing has to be waited for at the end.
    """

    def __init__(self) -> None:
        self._process: Any = None
        with contextlib.suppress(ImportError):
            import psutil

            self._psutil = psutil
            self._process = psutil.Process()
            psutil.cpu_percent()  # the first answer means nothing
            self._process.cpu_percent()

    def figures(self) -> dict[str, float]:
        """By MLflow's names: percent and megabytes; empty where psutil is missing."""
        if self._process is None:
            return {}
        with contextlib.suppress(self._psutil.Error, OSError):
            memory = self._psutil.virtual_memory()
            return {
                "system/cpu_utilization_percentage": self._psutil.cpu_percent(),
                "system/system_memory_usage_megabytes": memory.used / 1e6,
                "system/system_memory_usage_percentage": memory.percent,
                "system/process_cpu_utilization_percentage": self._process.cpu_percent(),
                "system/process_memory_usage_megabytes": self._process.memory_info().rss / 1e6,
                **_gpus(),
            }
        return {}


def _gpus() -> dict[str, float]:
    """Memory of the GPUs that this process uses."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    found = {}
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        found[f"system/gpu_{i}_memory_usage_megabytes"] = (total - free) / 1e6
        found[f"system/gpu_{i}_memory_usage_percentage"] = 100 * (total - free) / total
    return found
