"""Trains again whenever somebody says that there is new data.

    make serve                                                        # one terminal
    python examples/retrain_on_new_data.py                            # once, in another
    rsync -a camera:/photos/ data/photos/ && \\
        prefect event emit vtcc.new-data --resource-id vtcc.dataset.photos

The event starts `vtcc/train` with the parameters below. DVC sees which files are new: nothing
is computed again where nothing changed, and only the label-free rule makes a champion.
"""

import contextlib

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

NAME = "vtcc: train again on new data"
EVENT = "vtcc.new-data"
PARAMETERS = {"tags": {"reason": "new-data"}}


def main() -> None:
    """Creates the automation, in place of one of the same name."""
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name("vtcc/train")
        except ObjectNotFound:
            raise SystemExit("error: no deployment vtcc/train; start `make serve` first") from None
    with contextlib.suppress(ValueError):
        Automation.read(name=NAME).delete()
    made = Automation(
        name=NAME,
        trigger=EventTrigger(expect={EVENT}, posture=Posture.Reactive, threshold=1),
        actions=[RunDeployment(deployment_id=deployment.id, parameters=PARAMETERS)],
    ).create()
    print(f"{made.name}: prefect event emit {EVENT} --resource-id vtcc.dataset.NAME")


if __name__ == "__main__":
    main()
