// The calls of a back end by fetch (HTTP/1.1) or node:http2; docs/clients.md says which.
// Each call is a line: its name, the status, and the body.
import http from "node:http";
import http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";

const { GATEWAY, KEY, HTTP_VERSION } = process.env;
const session = { of: undefined };

// One that the gateway has closed, or is about to close, is not used again.
function connected() {
    if (!session.of || session.of.closed || session.of.destroyed) {
        session.of = http2.connect(GATEWAY);
        session.of.on("error", () => {});
    }
    return session.of;
}

function overHttp2(method, path, headers, body) {
    return new Promise((resolve, reject) => {
        const stream = connected().request({ ":method": method, ":path": path, ...headers },
            { endStream: body === undefined });
        let status, text = "";
        stream.on("response", (head) => { status = head[":status"]; });
        stream.setEncoding("utf8").on("data", (part) => { text += part; });
        stream.on("end", () => resolve({ status, text })).on("error", reject);
        if (typeof body === "string") {
            stream.end(body);
        } else if (body) {
            for (const part of body) stream.write(part);
            stream.end();
        }
    });
}

// fetch gives no body to a GET; node:http does.
function getStreamed(path) {
    return new Promise((resolve, reject) => {
        const headers = { token: KEY, "transfer-encoding": "chunked" };
        const request = http.request(GATEWAY + path, { headers }, (answer) => {
            let text = "";
            answer.setEncoding("utf8").on("data", (part) => { text += part; });
            answer.on("end", () => resolve({ status: answer.statusCode, text }));
        });
        request.on("error", reject).end();
    });
}

// The body: none, a text, or parts that come one by one.
async function send(method, path, body, token = KEY) {
    const headers = { token };
    if (HTTP_VERSION === "2") return overHttp2(method, path, headers, body);
    if (method === "GET" && body) return getStreamed(path);
    const init = { method, headers, body, signal: AbortSignal.timeout(5000) };
    if (body && typeof body !== "string") {
        init.body = new ReadableStream({
            start(stream) {
                for (const part of body) stream.enqueue(new TextEncoder().encode(part));
                stream.close();
            },
        });
        init.duplex = "half";
    }
    const answer = await fetch(GATEWAY + path, init);
    return { status: answer.status, text: await answer.text() };
}

function say(name, { status, text }) {
    console.log([name, status, text].join("\t"));
    return JSON.parse(text);
}

async function call(name, method, path, body) {
    return say(name, await send(method, path, body && JSON.stringify(body)));
}

const room = (await call("create", "POST", "/v5/rooms", { isRecord: false, limit: 0 })).uuid;
const ofRoom = `/v5/rooms/${room}`;
await call("create-without-body", "POST", "/v5/rooms");
say("create-streamed", await send("POST", "/v5/rooms", ['{"isRecord":', "false}"]));
say("create-streamed-nothing", await send("POST", "/v5/rooms", []));
await call("create-empty-map", "POST", "/v5/rooms", {});
await call("token", "POST", `/v5/tokens/rooms/${room}`, { lifespan: 3600 * 1e3, role: "reader" });
await call("token-permanent", "POST", `/v5/tokens/rooms/${room}`,
    { lifespan: Number.MAX_SAFE_INTEGER, role: "reader" });
await call("list", "GET", "/v5/rooms?limit=2");
await call("get", "GET", ofRoom);
say("get-streamed-nothing", await send("GET", ofRoom, []));
await call("ban", "PATCH", ofRoom, { isBan: true });
await call("unban", "PATCH", ofRoom, { isBan: false });
const ppt = { src: "https://example.org/a.png", width: 1280, height: 720 };
await call("add-scenes", "POST", `${ofRoom}/scenes`,
    { path: "/lesson", scenes: [{ name: "page é", ppt }] });
await call("scenes", "GET", `${ofRoom}/scenes?${new URLSearchParams({ sceneDir: "/lesson" })}`);
await call("switch", "PATCH", `${ofRoom}/scene-state`, { scenePath: "/lesson/page é" });
const picture = { width: 144, height: 104, path: "/init" };
await call("screenshot", "POST", `${ofRoom}/screenshots`, picture);
await call("screenshots", "POST", `${ofRoom}/screenshot-list`, { ...picture, path: "/lesson" });
const tasks = "/v5/projector/tasks";
const conversion = { resource: "https://example.org/a.pptx", type: "dynamic", preview: true };
const task = (await call("convert", "POST", tasks, conversion)).uuid;
const waiting = (await call("convert-another", "POST", tasks, conversion)).uuid;
await call("prioritize", "PUT", `${tasks}/${waiting}/priority`, { priority: "highest" });
await call("progress", "GET", `${tasks}/${task}`);
await call("task-token", "POST", `/v5/tokens/tasks/${task}`, { lifespan: 0, role: "reader" });
await call("cancel", "DELETE", `${tasks}/${waiting}`);
const legacy = (await call("legacy-convert", "POST", "/v5/services/conversion/tasks",
    { resource: "https://example.org/a.pdf", type: "static", scale: 2, pack: false })).uuid;
await call("legacy-progress", "GET", `/v5/services/conversion/tasks/${legacy}?type=static`);
let answer;
// The service fails twice.
for (let attempt = 0; attempt < 5; attempt++) {
    answer = await send("GET", tasks);
    if (answer.status < 500) break;
    await sleep(100);
}
say("conversions-retried", answer);
for (let again = 0; again < 20; again++) answer = await send("GET", ofRoom);
say("kept-alive", answer);
const answers = await Promise.all(Array.from({ length: 16 }, () => send("GET", ofRoom)));
say("concurrent", answers.reduce((worst, one) => (one.status > worst.status ? one : worst)));
// The gateway closes what is idle for a second.
await sleep(1500);
await call("after-idle", "POST", "/v5/rooms", {});
await call("unknown-room", "GET", "/v5/rooms/none");
say("wrong-key", await send("GET", ofRoom, undefined, KEY.slice(0, -1)));
session.of?.close();
