// What runs in a page: the calls of `@netless/fetch-middleware` as the official demo makes them, and
// what `white-web-sdk` asks of the API by itself. Each gives a list of calls: the name, the status
// where there is one, and what came of it.
import Fetcher from "@netless/fetch-middleware";
import { createPPTTask, PPTKind } from "white-web-sdk";

function recorder() {
    const lines = [];
    const call = async (name, promise) => {
        try {
            const answer = await promise;
            lines.push([name, "ok", JSON.stringify(answer)]);
            return answer;
        } catch (error) {
            lines.push([name, String(error.statusCode ?? "error"), String(error.message)]);
            return {};
        }
    };
    return { lines, call };
}

window.fetchMiddleware = async (gateway, key) => {
    const { lines, call } = recorder();
    const fetcher = new Fetcher(5000, gateway);
    const headers = { token: key, region: "us-sv" };
    const room = await call("create", fetcher.post({ path: "v5/rooms", headers }));
    await call("screenshot", fetcher.post({
        path: `v5/rooms/${room.uuid}/screenshots`, headers,
        body: { path: "/init", width: 144, height: 104 },
    }));
    const task = await call("convert", fetcher.post({
        path: "v5/projector/tasks", headers,
        body: { type: "dynamic", preview: true, scale: 2, resource: "https://example.org/a.pptx" },
    }));
    await call("progress", fetcher.get({
        path: `v5/projector/tasks/${task.uuid}`, headers, query: { uuid: task.uuid },
    }));
    await call("legacy-convert", fetcher.post({
        path: "v5/services/conversion/tasks", headers,
        body: { resource: "https://example.org/a.pdf", type: "static", preview: true },
    }));
    await call("task-token", fetcher.post({
        path: `v5/tokens/tasks/${task.uuid}`, headers, body: { lifespan: 0, role: "admin" },
    }));
    await call("ban", fetcher.patch({ path: `v5/rooms/${room.uuid}`, headers, body: { isBan: true } }));
    await call("unknown-room", fetcher.get({ path: "v5/rooms/none", headers }));
    await call("wrong-key", fetcher.get({
        path: `v5/rooms/${room.uuid}`, headers: { ...headers, token: key.slice(0, -1) },
    }));
    return lines;
};

// It knows no address of the API but its own.
window.whiteWebSdk = async (tasks) => {
    const { lines, call } = recorder();
    for (const [name, uuid, taskToken] of tasks) {
        await call(name, createPPTTask({
            uuid, taskToken, region: "us-sv", kind: PPTKind.Static, checkProgressInterval: 500,
        }).checkUtilGet());
    }
    return lines;
};
