"""What Prefect's server checks before it keeps what was submitted."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from prefect.utilities.callables import parameter_schema

from flows import deployments

SECRETS = ("https://ann:pw@host/x", "https://ann:p\nw@host/x", "https://host/x?key=pw")


def texts(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a text may be given, and what is said of it."""
    if isinstance(schema, dict) and schema.get("type") == "string":
        yield path, schema
    inner = schema.items() if isinstance(schema, dict) else ()
    inner = enumerate(schema) if isinstance(schema, list) else inner
    for key, value in inner:
        yield from texts(value, f"{path}/{key}")


@pytest.mark.parametrize("deployment", deployments.known(), ids=lambda one: one.name)
def test_no_text_takes_an_address_with_a_password(deployment: deployments.Deployment) -> None:
    schema = parameter_schema(deployment.flow).model_dump()
    found = dict(texts(schema))
    assert found
    for secret in SECRETS:
        taken = [
            path
            for path, one in found.items()
            if jsonschema.Draft202012Validator(one).is_valid(secret)
        ]
        assert taken == []
