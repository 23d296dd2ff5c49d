// The calls of a back end by net/http; docs/clients.md says which.
// Each call is a line: its name, the status, and the body.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

var (
	gateway = os.Getenv("GATEWAY")
	key     = os.Getenv("KEY")
	client  = &http.Client{Timeout: 5 * time.Second}
)

type object map[string]any

type answer struct {
	status int
	text   string
}

// Something whose length nobody knows, so that it is sent in chunks.
type stream struct{ io.Reader }

func send(method, path string, body io.Reader, token string) answer {
	request, err := http.NewRequest(method, gateway+path, body)
	check(err)
	request.Header.Set("token", token)
	response, err := client.Do(request)
	check(err)
	defer response.Body.Close()
	if os.Getenv("HTTP_VERSION")[:1] != fmt.Sprint(response.ProtoMajor) {
		panic(response.Proto)
	}
	text, err := io.ReadAll(response.Body)
	check(err)
	return answer{response.StatusCode, string(text)}
}

func say(name string, given answer) object {
	fmt.Printf("%s\t%d\t%s\n", name, given.status, given.text)
	var read object
	_ = json.Unmarshal([]byte(given.text), &read)
	return read
}

func call(name, method, path string, body any) object {
	if body == nil {
		return say(name, send(method, path, nil, key))
	}
	text, err := json.Marshal(body)
	check(err)
	return say(name, send(method, path, bytes.NewReader(text), key))
}

func streamed(name, method, path, text string) {
	say(name, send(method, path, stream{strings.NewReader(text)}, key))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	room := call("create", "POST", "/v5/rooms", object{"isRecord": false, "limit": 0})["uuid"].(string)
	ofRoom := "/v5/rooms/" + room
	call("create-without-body", "POST", "/v5/rooms", nil)
	streamed("create-streamed", "POST", "/v5/rooms", `{"isRecord":false}`)
	streamed("create-streamed-nothing", "POST", "/v5/rooms", "")
	call("create-empty-map", "POST", "/v5/rooms", object{})
	tokens := "/v5/tokens/rooms/" + room
	call("token", "POST", tokens, object{"lifespan": time.Hour.Seconds() * 1e3, "role": "reader"})
	call("token-permanent", "POST", tokens, object{"lifespan": math.MaxInt64, "role": "reader"})
	call("list", "GET", "/v5/rooms?limit=2", nil)
	call("get", "GET", ofRoom, nil)
	streamed("get-streamed-nothing", "GET", ofRoom, "")
	call("ban", "PATCH", ofRoom, object{"isBan": true})
	call("unban", "PATCH", ofRoom, object{"isBan": false})
	ppt := object{"src": "https://example.org/a.png", "width": 1280.0, "height": 720.0}
	scenes := []object{{"name": "page é", "ppt": ppt}}
	call("add-scenes", "POST", ofRoom+"/scenes", object{"path": "/lesson", "scenes": scenes})
	call("scenes", "GET", ofRoom+"/scenes?sceneDir=%2Flesson", nil)
	call("switch", "PATCH", ofRoom+"/scene-state", object{"scenePath": "/lesson/page é"})
	picture := object{"width": 144, "height": 104, "path": "/init"}
	call("screenshot", "POST", ofRoom+"/screenshots", picture)
	picture["path"] = "/lesson"
	call("screenshots", "POST", ofRoom+"/screenshot-list", picture)
	tasks := "/v5/projector/tasks"
	conversion := object{"resource": "https://example.org/a.pptx", "type": "dynamic", "preview": true}
	task := call("convert", "POST", tasks, conversion)["uuid"].(string)
	waiting := call("convert-another", "POST", tasks, conversion)["uuid"].(string)
	call("prioritize", "PUT", tasks+"/"+waiting+"/priority", object{"priority": "highest"})
	call("progress", "GET", tasks+"/"+task, nil)
	call("task-token", "POST", "/v5/tokens/tasks/"+task, object{"lifespan": 0, "role": "reader"})
	call("cancel", "DELETE", tasks+"/"+waiting, nil)
	old := "/v5/services/conversion/tasks"
	static := object{"resource": "https://example.org/a.pdf", "type": "static", "scale": 2.0, "pack": false}
	legacy := call("legacy-convert", "POST", old, static)["uuid"].(string)
	call("legacy-progress", "GET", old+"/"+legacy+"?type=static", nil)
	// The service fails twice.
	var given answer
	for attempt := 0; attempt < 5; attempt++ {
		if given = send("GET", tasks, nil, key); given.status < 500 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	say("conversions-retried", given)
	for again := 0; again < 20; again++ {
		given = send("GET", ofRoom, nil, key)
	}
	say("kept-alive", given)
	answers := make([]answer, 16)
	var all sync.WaitGroup
	for index := range answers {
		all.Add(1)
		go func(index int) {
			defer all.Done()
			answers[index] = send("GET", ofRoom, nil, key)
		}(index)
	}
	all.Wait()
	for _, one := range answers {
		if one.status > given.status {
			given = one
		}
	}
	say("concurrent", given)
	// The gateway closes what is idle for a second.
	time.Sleep(1500 * time.Millisecond)
	call("after-idle", "POST", "/v5/rooms", object{})
	call("unknown-room", "GET", "/v5/rooms/none", nil)
	say("wrong-key", send("GET", ofRoom, nil, key[:len(key)-1]))
}
