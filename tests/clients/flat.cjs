// What flat-server calls, by the axios and the retry-axios that it uses, set up as it does.
// Each call is a line: its name, the status, and the body.
const axios = require("axios");
const rax = require("retry-axios");

const { GATEWAY, KEY } = process.env;
const client = axios.create({ timeout: 5000 });
client.defaults.raxConfig = { instance: client };
rax.attach(client);

async function call(name, method, path, data, region = "us-sv") {
    const headers = { token: KEY, region };
    // Its client says this of itself where there is a body, and nothing where there is none.
    if (data) headers["Content-Type"] = "application/json";
    let answer;
    try {
        answer = await client.request({ method, url: GATEWAY + path, headers, data });
    } catch (error) {
        if (!error.response) throw error;
        answer = error.response;
    }
    console.log([name, answer.status, JSON.stringify(answer.data)].join("\t"));
    return answer.data;
}

async function main() {
    const room = (await call("create", "POST", "/v5/rooms", { isRecord: true, limit: 0 })).uuid;
    await call("ban", "PATCH", `/v5/rooms/${room}`, { isBan: true });
    const tasks = "/v5/projector/tasks";
    const slides = (await call("convert-slides", "POST", tasks, {
        resource: "https://example.org/a.pptx", type: "dynamic",
        scale: 1.2, preview: true, imageCompressionLevel: 1,
    })).uuid;
    const pages = (await call("convert-pages", "POST", tasks, {
        resource: "https://example.org/a.pdf", type: "static", scale: 2.4, preview: true,
    })).uuid;
    await call("progress-of-slides", "GET", `${tasks}/${slides}`);
    await call("progress-of-pages", "GET", `${tasks}/${pages}`);
    const old = "/v5/services/conversion/tasks";
    const legacy = (await call("legacy-convert", "POST", old, {
        resource: "https://example.org/a.pdf", type: "static",
        pack: true, canvasVersion: false, scale: 2.4,
    })).uuid;
    await call("legacy-progress", "GET", `${old}/${legacy}?type=static`);
    // The service fails twice, which retry-axios does not show.
    await call("conversions-retried", "GET", tasks);
    // Some of its helpers pass their arguments as one list.
    await call("room-undefined", "PATCH", "/v5/rooms/undefined", { isBan: true }, ["us-sv", room]);
    await call("convert-a-list", "POST", old, [{ resource: "https://example.org/a.pdf", type: "static" }]);
    await call("convert-numbers", "POST", tasks,
        { 0: { resource: "https://example.org/a.pptx" }, preview: true, pack: false });
    await call("legacy-undefined", "GET", `${old}/${legacy},static?type=undefined`);
}

main();
