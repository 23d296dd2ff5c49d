"""The calls of a back end by requests or httpx, as its argument says; docs/clients.md says which.

Each call is a line: its name, the status, and the body.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import requests

gateway, key = os.environ["GATEWAY"], os.environ["KEY"]
# The two say the same thing by two names.
if sys.argv[1] == "httpx":
    # A connection is used again without a look at whether it was closed, for as long as it expires.
    limits = httpx.Limits(keepalive_expiry=0.5)
    two = os.environ["HTTP_VERSION"] == "2"
    client, raw = httpx.Client(http1=not two, http2=two, limits=limits), "content"
else:
    client, raw = requests.Session(), "data"
client.headers["token"] = key


def send(method, path, client=client, **more):
    return client.request(method, gateway + path, timeout=5, **more)


def say(name, answer):
    print(name, answer.status_code, answer.text, sep="\t", flush=True)
    return answer.json()


def call(name, method, path, body=None, **more):
    if body is not None:
        more["json"] = body
    return say(name, send(method, path, **more))


def streamed(name, method, path, *parts):
    return say(name, send(method, path, **{raw: (part for part in parts)}))


room = call("create", "POST", "/v5/rooms", {"isRecord": False, "limit": 0})["uuid"]
call("create-without-body", "POST", "/v5/rooms")
streamed("create-streamed", "POST", "/v5/rooms", b'{"isRecord":', b"false}")
streamed("create-streamed-nothing", "POST", "/v5/rooms")
say("create-empty-map", send("POST", "/v5/rooms", **{raw: json.dumps({})}))
# 3600000.0
call("token", "POST", f"/v5/tokens/rooms/{room}", {"lifespan": 3600 * 1e3, "role": "reader"})
call("token-permanent", "POST", f"/v5/tokens/rooms/{room}", {"lifespan": 2**63 - 1, "role": "reader"})
call("list", "GET", "/v5/rooms", params={"limit": 2})
call("get", "GET", f"/v5/rooms/{room}")
streamed("get-streamed-nothing", "GET", f"/v5/rooms/{room}")
call("ban", "PATCH", f"/v5/rooms/{room}", {"isBan": True})
call("unban", "PATCH", f"/v5/rooms/{room}", {"isBan": False})
scene = {"name": "page é", "ppt": {"src": "https://example.org/a.png", "width": 1280.0, "height": 720.0}}
call("add-scenes", "POST", f"/v5/rooms/{room}/scenes", {"path": "/lesson", "scenes": [scene]})
call("scenes", "GET", f"/v5/rooms/{room}/scenes", params={"sceneDir": "/lesson"})
call("switch", "PATCH", f"/v5/rooms/{room}/scene-state", {"scenePath": "/lesson/page é"})
picture = {"width": 144, "height": 104, "path": "/init"}
call("screenshot", "POST", f"/v5/rooms/{room}/screenshots", picture)
call("screenshots", "POST", f"/v5/rooms/{room}/screenshot-list", picture | {"path": "/lesson"})
conversion = {"resource": "https://example.org/a.pptx", "type": "dynamic", "preview": True}
task = call("convert", "POST", "/v5/projector/tasks", conversion)["uuid"]
waiting = call("convert-another", "POST", "/v5/projector/tasks", conversion)["uuid"]
call("prioritize", "PUT", f"/v5/projector/tasks/{waiting}/priority", {"priority": "highest"})
call("progress", "GET", f"/v5/projector/tasks/{task}")
call("task-token", "POST", f"/v5/tokens/tasks/{task}", {"lifespan": 0, "role": "reader"})
call("cancel", "DELETE", f"/v5/projector/tasks/{waiting}")
static = {"resource": "https://example.org/a.pdf", "type": "static", "scale": 2.0, "pack": False}
legacy = call("legacy-convert", "POST", "/v5/services/conversion/tasks", static)["uuid"]
call("legacy-progress", "GET", f"/v5/services/conversion/tasks/{legacy}", params={"type": "static"})
# The service fails twice.
for attempt in range(5):
    answer = send("GET", "/v5/projector/tasks")
    if answer.status_code < 500:
        break
    time.sleep(0.1)
say("conversions-retried", answer)
for again in range(20):
    answer = send("GET", f"/v5/rooms/{room}")
say("kept-alive", answer)


def get(_):
    # Threads that share a connection of httpx 0.23 send their frames out of order.
    alone = httpx.Client(http1=not two, http2=two) if raw == "content" else client
    return send("GET", f"/v5/rooms/{room}", client=alone, headers=client.headers)


with ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(get, range(16)))
say("concurrent", max(answers, key=lambda answer: answer.status_code))
# The gateway closes what is idle for a second.
time.sleep(1.5)
call("after-idle", "POST", "/v5/rooms", {})
call("unknown-room", "GET", "/v5/rooms/none")
call("wrong-key", "GET", f"/v5/rooms/{room}", headers={"token": key[:-1]})
