"""MLflow: runs, the served model, the registry. Wraps the other rooms; torch-free until used."""
