# The calls of a back end by Net::HTTP; docs/clients.md says which.
# Each call is a line: its name, the status, and the body.

require "json"
require "net/http"
require "stringio"

GATEWAY = URI(ENV.fetch("GATEWAY"))
KEY = ENV.fetch("KEY")

def connect
  Net::HTTP.start(GATEWAY.host, GATEWAY.port, use_ssl: GATEWAY.scheme == "https", read_timeout: 5)
end

CONNECTION = connect

def send_request(method, path, text: nil, stream: nil, token: KEY, connection: CONNECTION)
  request = Net::HTTP.const_get(method.capitalize).new(path)
  request["token"] = token
  # Without a label, Net::HTTP calls a body a form.
  request.body = text
  if stream
    request.body_stream = StringIO.new(stream)
    request["Transfer-Encoding"] = "chunked"
  end
  connection.request(request)
end

def say(name, answer)
  puts [name, answer.code, answer.body].join("\t")
  JSON.parse(answer.body)
end

def call(name, method, path, body = nil)
  say(name, send_request(method, path, text: body && JSON.generate(body)))
end

room = call("create", "POST", "/v5/rooms", { isRecord: false, limit: 0 })["uuid"]
of_room = "/v5/rooms/#{room}"
call("create-without-body", "POST", "/v5/rooms")
say("create-streamed", send_request("POST", "/v5/rooms", stream: '{"isRecord":false}'))
say("create-streamed-nothing", send_request("POST", "/v5/rooms", stream: ""))
call("create-empty-map", "POST", "/v5/rooms", {})
# 3600000.0
call("token", "POST", "/v5/tokens/rooms/#{room}", { lifespan: 3600 * 1e3, role: "reader" })
call("token-permanent", "POST", "/v5/tokens/rooms/#{room}", { lifespan: 2**64, role: "reader" })
call("list", "GET", "/v5/rooms?" + URI.encode_www_form(limit: 2))
call("get", "GET", of_room)
say("get-streamed-nothing", send_request("GET", of_room, stream: ""))
call("ban", "PATCH", of_room, { isBan: true })
call("unban", "PATCH", of_room, { isBan: false })
ppt = { src: "https://example.org/a.png", width: 1280.0, height: 720.0 }
call("add-scenes", "POST", "#{of_room}/scenes", { path: "/lesson", scenes: [{ name: "page é", ppt: ppt }] })
call("scenes", "GET", "#{of_room}/scenes?" + URI.encode_www_form(sceneDir: "/lesson"))
call("switch", "PATCH", "#{of_room}/scene-state", { scenePath: "/lesson/page é" })
picture = { width: 144, height: 104.0, path: "/init" }
call("screenshot", "POST", "#{of_room}/screenshots", picture)
call("screenshots", "POST", "#{of_room}/screenshot-list", picture.merge(path: "/lesson"))
tasks = "/v5/projector/tasks"
conversion = { resource: "https://example.org/a.pptx", type: "dynamic", preview: true }
task = call("convert", "POST", tasks, conversion)["uuid"]
waiting = call("convert-another", "POST", tasks, conversion)["uuid"]
call("prioritize", "PUT", "#{tasks}/#{waiting}/priority", { priority: "highest" })
call("progress", "GET", "#{tasks}/#{task}")
call("task-token", "POST", "/v5/tokens/tasks/#{task}", { lifespan: 0, role: "reader" })
call("cancel", "DELETE", "#{tasks}/#{waiting}")
static = { resource: "https://example.org/a.pdf", type: "static", scale: 2.0, pack: false }
legacy = call("legacy-convert", "POST", "/v5/services/conversion/tasks", static)["uuid"]
call("legacy-progress", "GET", "/v5/services/conversion/tasks/#{legacy}?type=static")
# The service fails twice.
answer = nil
5.times do
  answer = send_request("GET", tasks)
  break if answer.code.to_i < 500

  sleep 0.1
end
say("conversions-retried", answer)
20.times { answer = send_request("GET", of_room) }
say("kept-alive", answer)
threads = Array.new(16) { Thread.new { send_request("GET", of_room, connection: connect) } }
say("concurrent", threads.map(&:value).max_by { |one| one.code.to_i })
# The gateway closes what is idle for a second; Net::HTTP looks whether it was after two.
sleep 2.5
call("after-idle", "POST", "/v5/rooms", {})
call("unknown-room", "GET", "/v5/rooms/none")
say("wrong-key", send_request("GET", of_room, token: KEY[0..-2]))
