"""`vtcc presets`: what `vtcc use` takes."""

from rich.console import Console
from rich.table import Table

from vtcc import config, paths
from vtcc.config import compose


def run() -> None:
    """Prints run, model, augmentation and encoder presets and the cards of data sets."""
    project = paths.project()
    table = Table("preset", "images", "K", "for", box=None)
    for name in compose.names("run", project):
        file = compose.directory("run", project) / f"{name}.yaml"
        values = config.from_dict(config.Params, config.read_yaml(file))
        size = f"{values.train.image_size} px"
        table.add_row(name, size, str(values.train.num_clusters), compose.comment(file))
    Console().print(table)
    for kind in ("model", "augment", "encoder", "dataset"):
        option, names = f"--{kind}", compose.names(kind, project)
        if names:
            table = Table(option, "for", box=None)
            for name in names:
                table.add_row(name, compose.describe(kind, name, project))
            print()
            Console().print(table)
