"""Who is champion, since when and why: every move of the alias is written down and can be undone.

The record is the tag `champion_history` of the registered model: who looks at it in MLflow sees
it, and it goes where the registry goes.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import json_file, paths
from vtcc.atomic import write_text
from vtcc.errors import VtccError
from vtcc.tracking import fetch, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
HISTORY = "champion_history"
MOST = 20  # moves that are kept; a tag holds 5,000 characters
_LONGEST = 160  # characters of a reason in the record
_TAG = 5000  # and in a tag of its own
_UNDONE = "rolled back"


@dataclass(frozen=True)
class Move:
    """The alias `champion` went to a version.

    Attributes:
        version: that got it. before: that had it, or "".
        reason: why. at: when, UTC, ISO 8601.
    """

    version: str
    before: str
    reason: str
    at: str


def holder(client: "MlflowClient", name: str) -> str | None:
    """The version that is champion, or None."""
    version = client.get_registered_model(name).aliases.get(CHAMPION)
    return None if version is None else str(version)


def history(client: "MlflowClient", name: str) -> list[Move]:
    """The moves of the alias, the latest last; what cannot be read counts as none."""
    text = client.get_registered_model(name).tags.get(HISTORY, "[]")
    try:
        return [Move(**entry) for entry in json_file.parse(text)]
    except (ValueError, TypeError):
        return []


def why_now(client: "MlflowClient", name: str, version: str, now: str) -> str:
    """Why the champion is `now`, as said of a version that is it, or was compared with it.

    The version's own tag says what was decided last about it, and not that the alias was moved
    by hand since.
    """
    decided = client.get_model_version(name, version).tags.get("promotion", "")
    last = history(client, name)[-1:]
    why = last[0].reason if last and last[0].version == now else "set by hand"
    if version == now:
        return decided if decided.startswith(why) else why  # `why` may be cut
    if decided.startswith("not promoted"):
        return decided
    return f"not promoted: version {now} is champion ({why})"


def move(client: "MlflowClient", name: str, version: str, reason: str) -> Move:
    """Makes a version champion and writes down why; to be called inside `store.alone()`.

    Args:
        client: of the store. name: of the registered model.
        version: an existing one. reason: one sentence.
    """
    before = holder(client, name) or ""
    reason = reason.encode("utf-8", "replace").decode()  # an argument may be any bytes
    if len(reason) > _TAG:
        reason = f"{reason[: _TAG - 3]}..."
    made = Move(version, before, reason, datetime.now(UTC).isoformat(timespec="seconds"))
    short = Move(version, before, reason[:_LONGEST], made.at)
    kept = [*history(client, name), short][-MOST:]
    while len(text := json.dumps([asdict(m) for m in kept])) > 4500:
        kept = kept[1:]
    client.set_model_version_tag(name, version, "promotion", reason)
    client.set_registered_model_alias(name, CHAMPION, version)
    client.set_registered_model_tag(name, HISTORY, text)
    return made


def promote(name: str, version: str, reason: str = "") -> Move:
    """Makes a version champion by hand.

    Args:
        name: of the registered model. version: its number. reason: why, for the record.

    Raises:
        VtccError: when there is no such model or version, or it is champion already.
    """
    client = fetch.registry_of(name, name)
    with store.alone(), store.reachable(registry=True):
        fetch.check_model(client, name, name)
        fetch.check_version(client, name, name, version)
        if holder(client, name) == version:
            raise VtccError(f"{name}: version {version} is the champion already")
        return _by_hand(client, name, version, f"promoted by hand: {reason or 'no reason given'}")


def rollback(name: str) -> Move:
    """Gives the alias back to the version that had it before; again goes one further back.

    Raises:
        VtccError: when there is no such model, or no champion before this one.
    """
    client = fetch.registry_of(name, name)
    with store.alone(), store.reachable(registry=True):
        fetch.check_model(client, name, name)
        now, moves = holder(client, name), history(client, name)
        if now is None:
            raise VtccError(f"{name}: there is no champion; make one: vtcc promote VERSION")
        before = _before(moves, now)
        if not before:
            raise VtccError(
                f"{name}: no champion is known before version {now}; name one: vtcc promote VERSION"
            )
        if before not in fetch.versions(client, name):
            raise VtccError(f"{name}: version {before}, champion before {now}, was deleted")
        why = next((m.reason for m in reversed(moves) if m.version == now), "set elsewhere")
        return _by_hand(client, name, before, f"{_UNDONE} from version {now} ({why[:90]})")


def remember(client: "MlflowClient", registered: dict[str, Any]) -> None:
    """Keeps what was registered last, with the aliases now, for `vtcc show`: it has no MLflow."""
    aliases = client.get_registered_model(registered["name"]).aliases
    entry = registered | {"aliases": {k: str(v) for k, v in aliases.items()}}
    write_text(_remembered(), json.dumps(entry, indent=2) + "\n")


def _remembered() -> Path:
    return paths.home() / ".vtcc" / "registered.json"


def _by_hand(client: "MlflowClient", name: str, version: str, reason: str) -> Move:
    """`move`, which `vtcc show` knows of afterwards."""
    last: dict[str, Any] = {}
    if _remembered().is_file():
        last = json_file.read(_remembered(), "delete it", {"name": str, "version": str})
    made = move(client, name, version, reason)
    if last.get("name") == name:
        if last["version"] in (made.version, made.before):
            last |= {"champion": last["version"] == version, "reason": reason}
        remember(client, last)
    return made


def _before(moves: list[Move], now: str) -> str:
    """Which version had the alias before `now` got it, moves that were undone left out."""
    stack: list[str] = []
    for m in moves:
        if m.reason.startswith(_UNDONE):
            while stack and stack[-1] != m.version:
                stack.pop()
            stack = stack or [m.version]
        else:
            if m.before and stack[-1:] != [
                m.before
            ]:  # set in MLflow itself, or the first on record
                stack.append(m.before)
            stack.append(m.version)
    if stack and stack[-1] == now:
        stack.pop()
    return stack[-1] if stack else ""
