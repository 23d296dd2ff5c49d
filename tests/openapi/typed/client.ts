// A client in TypeScript whose types are made from the OpenAPI document: each of the 19 operations,
// with what comes read by its type. What must not compile is marked, and the compiler complains
// about a mark without an error.
//
//   node built/client.js BASE_URL KEY

import assert from "node:assert/strict";
import { argv } from "node:process";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Schemas = components["schemas"];

const [, , baseUrl, key] = argv;
assert(baseUrl !== undefined && key !== undefined);
const api = createClient<paths>({ baseUrl, headers: { token: key } });

/** What came, where it is a success with this status. */
function taken<Data>(result: { data?: Data; error?: Schemas["Failure"]; response: Response }, status: number): Data {
  assert.equal(result.response.status, status, JSON.stringify(result.error));
  assert(result.data !== undefined);
  return result.data;
}

const hour = 3_600_000;
const room: Schemas["Room"] = taken(await api.POST("/v5/rooms", { body: { isRecord: false, limit: 3 } }), 201);
const ofRoom = { params: { path: { uuid: room.uuid } } };
assert.equal(room.limit, 3);
// @ts-expect-error: a room has no such member.
room.size;
// @ts-expect-error: `limit` is a number.
room.limit satisfies string;

const sdk: string = taken(await api.POST("/v5/tokens/teams", { body: { lifespan: hour, role: "writer" } }), 201);
assert(sdk.startsWith("NETLESSSDK_"));
const ofRoomToken: string = taken(
  await api.POST("/v5/tokens/rooms/{uuid}", { ...ofRoom, body: { lifespan: hour, role: "reader" } }), 201);
assert(ofRoomToken.startsWith("NETLESSROOM_"));
// @ts-expect-error: there is no such role.
await api.POST("/v5/tokens/rooms/{uuid}", { ...ofRoom, body: { lifespan: hour, role: "owner" } });
// @ts-expect-error: `role` must be there.
await api.POST("/v5/tokens/rooms/{uuid}", { ...ofRoom, body: { lifespan: hour } });

const rooms: Schemas["Room"][] = taken(
  await api.GET("/v5/rooms", { params: { query: { beginUUID: room.uuid, limit: 1 } } }), 200);
assert.equal(rooms[0]?.uuid, room.uuid);
const again: Schemas["Room"] = taken(await api.GET("/v5/rooms/{uuid}", ofRoom), 200);
assert.equal(again.createdAt, room.createdAt);
// @ts-expect-error: the path has an id.
await api.GET("/v5/rooms/{uuid}");

const size = { width: 640, height: 360 };
const picture: Schemas["Screenshot"] = taken(
  await api.POST("/v5/rooms/{uuid}/screenshots", { ...ofRoom, body: { ...size, path: "/init" } }), 201);
assert(picture.url.endsWith(picture.key));
const pictures: Schemas["Screenshot"][] = taken(
  await api.POST("/v5/rooms/{uuid}/screenshot-list", { ...ofRoom, body: { ...size, path: "/" } }), 201);
assert.equal(typeof pictures[0]?.bucket, "string");

taken(await api.POST("/v5/rooms/{uuid}/scenes", { ...ofRoom, body: { path: "/lesson", scenes: [{ name: "1" }] } }), 201);
const scenes: string[] = taken(
  await api.GET("/v5/rooms/{uuid}/scenes", { params: { ...ofRoom.params, query: { sceneDir: "/lesson" } } }), 200);
assert.deepEqual(scenes, ["/lesson/1"]);
const shown: Schemas["SceneState"] = taken(
  await api.PATCH("/v5/rooms/{uuid}/scene-state", { ...ofRoom, body: { scenePath: "/lesson/1" } }), 201);
assert.equal(shown.currentScenePath.at(-1), "1");

const file = { resource: "https://files.example.com/a.pptx", type: "dynamic", preview: true } as const;
const started = [];
for (let count = 0; count < 3; count += 1) {
  const task: Schemas["ConversionStarted"] = taken(await api.POST("/v5/projector/tasks", { body: file }), 201);
  started.push(task.uuid);
}
const last = started.at(-1);
assert(last !== undefined);
const ofTask = { params: { path: { uuid: last } } };
const ofTaskToken: string = taken(
  await api.POST("/v5/tokens/tasks/{uuid}", { ...ofTask, body: { lifespan: hour, role: "reader" } }), 201);
assert(ofTaskToken.startsWith("NETLESSTASK_"));
const underWay: Schemas["ConversionsUnderWay"] = taken(await api.GET("/v5/projector/tasks"), 200);
assert(underWay.some(({ taskId, status }) => taskId === last && status <= 1));
const conversion: Schemas["Conversion"] = taken(await api.GET("/v5/projector/tasks/{uuid}", ofTask), 200);
assert.equal(conversion.type, "dynamic");
const percentage: number | undefined = conversion.convertedPercentage;
assert(percentage === undefined || percentage <= 100);
const page: string | undefined = conversion.images?.["1"]?.url;
assert.equal(page, undefined);
const moved: Schemas["ConversionChange"] = taken(
  await api.PUT("/v5/projector/tasks/{uuid}/priority", { ...ofTask, body: { priority: "highest" } }), 200);
assert.equal(moved.success, true);
const cancelled: Schemas["ConversionChange"] = taken(await api.DELETE("/v5/projector/tasks/{uuid}", ofTask), 200);
assert.equal(cancelled.taskId ?? cancelled.uuid, last);

const old: Schemas["ConversionStarted"] = taken(
  await api.POST("/v5/services/conversion/tasks", { body: { resource: file.resource, type: "static" } }), 201);
const oldTask: Schemas["LegacyConversion"] = taken(
  await api.GET("/v5/services/conversion/tasks/{uuid}", { params: { path: { uuid: old.uuid }, query: { type: "static" } } }), 200);
assert.equal(typeof oldTask.progress?.convertedFileList?.length, "number");

const banned: Schemas["Room"] = taken(await api.PATCH("/v5/rooms/{uuid}", { ...ofRoom, body: { isBan: true } }), 201);
assert.equal(banned.isBan, true);

const missing = await api.GET("/v5/rooms/{uuid}", { params: { path: { uuid: "none-such" } } });
const failure: Schemas["Failure"] | undefined = missing.error;
assert.equal(missing.response.status, 404);
assert.equal(failure?.code, "not_found");
// @ts-expect-error: a failure says `message`.
failure?.error;

console.log("19 operations");
