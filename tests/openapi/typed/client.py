"""A client in Python whose models are made from the OpenAPI document: what comes of each of the 19
operations is parsed into its model. What must not type-check is marked, and mypy complains about a
mark without an error.

    python client.py BASE_URL KEY
"""

import json
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

import models

BASE_URL, KEY = sys.argv[1:3]
HOUR = 3_600_000
Model = TypeVar("Model", bound=BaseModel)


def call(method: str, path: str, status: int, of: type[Model], body: object = None) -> Model:
    """Calls the gateway, and parses what comes into its model."""
    request = urllib.request.Request(BASE_URL + path, method=method, headers={"token": KEY})
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            came, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        came, text = error.code, error.read()
    assert came == status, (method, path, came, text)
    return of.model_validate_json(text, strict=True)


room = call("POST", "/v5/rooms", 201, models.Room, {"isRecord": False, "limit": 3})
assert room.limit + 1 == 4
one = f"/v5/rooms/{room.uuid}"

for_reading = {"lifespan": HOUR, "role": "reader"}
sdk = call("POST", "/v5/tokens/teams", 201, models.Token, for_reading)
assert sdk.root.startswith("NETLESSSDK_")
token = call("POST", f"/v5/tokens/rooms/{room.uuid}", 201, models.Token, for_reading)
assert token.root.startswith("NETLESSROOM_")

rooms = call("GET", f"/v5/rooms?beginUUID={room.uuid}&limit=1", 200, models.Rooms)
assert rooms.root[0].uuid == room.uuid
assert call("GET", one, 200, models.Room).createdAt == room.createdAt

size = {"width": 640, "height": 360}
picture = call("POST", f"{one}/screenshots", 201, models.Screenshot, {**size, "path": "/init"})
assert picture.url.endswith(picture.key)
pictures = call("POST", f"{one}/screenshot-list", 201, models.Screenshots, {**size, "path": "/"})
assert pictures.root[0].bucket

scenes = {"path": "/lesson", "scenes": [{"name": "1"}]}
call("POST", f"{one}/scenes", 201, models.Done, scenes)
paths = call("GET", f"{one}/scenes?sceneDir=/lesson", 200, models.ScenePaths)
assert paths.root == ["/lesson/1"]
shown = call("PATCH", f"{one}/scene-state", 201, models.SceneState, {"scenePath": "/lesson/1"})
assert shown.currentScenePath[-1] == "1"

file = {"resource": "https://files.example.com/a.pptx", "type": "dynamic", "preview": True}
started = [call("POST", "/v5/projector/tasks", 201, models.ConversionStarted, file) for _ in "abc"]
last = started[-1].uuid
task = f"/v5/projector/tasks/{last}"
token = call("POST", f"/v5/tokens/tasks/{last}", 201, models.Token, for_reading)
assert token.root.startswith("NETLESSTASK_")
under_way = call("GET", "/v5/projector/tasks", 200, models.ConversionsUnderWay)
assert any(one.taskId == last and one.status <= 1 for one in under_way.root)
conversion = call("GET", task, 200, models.Conversion)
assert conversion.type == "dynamic" and conversion.images is None
moved = call("PUT", f"{task}/priority", 200, models.ConversionChange, {"priority": "highest"})
assert moved.success
assert call("DELETE", task, 200, models.ConversionChange).taskId == last

old = call(
    "POST", "/v5/services/conversion/tasks", 201, models.ConversionStarted, {**file, "type": "static"}
)
path = f"/v5/services/conversion/tasks/{old.uuid}?type=static"
legacy = call("GET", path, 200, models.LegacyConversion)
assert legacy.progress and legacy.progress.convertedFileList is not None

assert call("PATCH", one, 201, models.Room, {"isBan": True}).isBan
failure = call("GET", "/v5/rooms/none-such", 404, models.Failure)
assert failure.code == "not_found" and failure.requestId

if TYPE_CHECKING:
    room.size  # type: ignore[attr-defined]
    room.limit.upper()  # type: ignore[attr-defined]
    conversion.images["1"].url  # type: ignore[index]
    failure.error  # type: ignore[attr-defined]

print("19 operations")
