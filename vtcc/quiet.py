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

# Says to this program and to those it starts that HF_HUB_OFFLINE is not the user's own wish.
_OFFLINE_BY_DEFAULT = "VTCC_HUB_OFFLINE_BY_DEFAULT"


def hub_switched_off() -> bool:
    """Whether the user, and not vtcc, keeps huggingface_hub off the network."""
    value = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return value in ("1", "ON", "YES", "TRUE") and _OFFLINE_BY_DEFAULT not in os.environ


def apply() -> None:
    """Sets the switches that the user has not set. Call before importing any library."""
    if "HF_HUB_OFFLINE" not in os.environ:
        os.environ[_OFFLINE_BY_DEFAULT] = "1"
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
