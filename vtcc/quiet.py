"""Environment switches that keep libraries quiet: no telemetry, no waiting for a network.

The one place for them: `vtcc`, `flows` and the tests apply these before they import a library, and
what they start inherits them.
"""

import os

SWITCHES = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GX_ANALYTICS_ENABLED": "false",
    # Threads that wait for each other sleep instead of spinning: on a busy machine spinning
    # takes the very processor that the other thread waits for.
    "OMP_WAIT_POLICY": "passive",
}


def apply() -> None:
    """Sets the switches that the user has not set. Call before importing any library."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
