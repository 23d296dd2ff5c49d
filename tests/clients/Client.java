// The calls of a back end by java.net.http with Gson; docs/clients.md says which.
// Each call is a line: its name, the status, and the body.

import com.google.gson.Gson;
import com.google.gson.JsonParser;
import java.io.ByteArrayInputStream;
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    static final String GATEWAY = System.getenv("GATEWAY");
    static final String KEY = System.getenv("KEY");
    static final HttpClient CLIENT = client();

    // As it is by default, it asks for an upgrade to HTTP/2 where there is no TLS.
    static HttpClient client() {
        try {
            var store = KeyStore.getInstance(KeyStore.getDefaultType());
            store.load(null, null);
            try (var file = new FileInputStream(System.getenv("SSL_CERT_FILE"))) {
                var certificate = CertificateFactory.getInstance("X.509").generateCertificate(file);
                store.setCertificateEntry("authority", certificate);
            }
            var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            trust.init(store);
            var tls = SSLContext.getInstance("TLS");
            tls.init(null, trust.getTrustManagers(), null);
            return HttpClient.newBuilder().sslContext(tls).connectTimeout(Duration.ofSeconds(5)).build();
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    static HttpRequest request(String method, String path, BodyPublisher body, String token) {
        return HttpRequest.newBuilder(URI.create(GATEWAY + path)).timeout(Duration.ofSeconds(5))
            .header("token", token).method(method, body).build();
    }

    static HttpResponse<String> send(String method, String path, BodyPublisher body) throws Exception {
        var answer = CLIENT.send(request(method, path, body, KEY), BodyHandlers.ofString());
        var wanted = System.getenv("HTTP_VERSION").equals("2") ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1;
        if (answer.version() != wanted) {
            throw new IllegalStateException(answer.version().toString());
        }
        return answer;
    }

    static String say(String name, HttpResponse<String> answer) {
        System.out.println(name + "\t" + answer.statusCode() + "\t" + answer.body());
        return answer.body();
    }

    static String call(String name, String method, String path) throws Exception {
        return say(name, send(method, path, BodyPublishers.noBody()));
    }

    static String call(String name, String method, String path, Map<String, Object> body) throws Exception {
        return say(name, send(method, path, BodyPublishers.ofString(new Gson().toJson(body))));
    }

    static void streamed(String name, String method, String path, String text) throws Exception {
        var stream = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(text.getBytes()));
        say(name, send(method, path, stream));
    }

    static String uuid(String answer) {
        return JsonParser.parseString(answer).getAsJsonObject().get("uuid").getAsString();
    }

    public static void main(String[] arguments) throws Exception {
        var room = uuid(call("create", "POST", "/v5/rooms", Map.of("isRecord", false, "limit", 0.0)));
        var ofRoom = "/v5/rooms/" + room;
        call("create-without-body", "POST", "/v5/rooms");
        streamed("create-streamed", "POST", "/v5/rooms", "{\"isRecord\":false}");
        streamed("create-streamed-nothing", "POST", "/v5/rooms", "");
        call("create-empty-map", "POST", "/v5/rooms", Map.of());
        // 3600000.0, or 3.6E9 where it is more
        call("token", "POST", "/v5/tokens/rooms/" + room, Map.of("lifespan", 3600 * 1e3, "role", "reader"));
        call("token-permanent", "POST", "/v5/tokens/rooms/" + room,
            Map.of("lifespan", Long.MAX_VALUE, "role", "reader"));
        call("list", "GET", "/v5/rooms?limit=2");
        call("get", "GET", ofRoom);
        streamed("get-streamed-nothing", "GET", ofRoom, "");
        call("ban", "PATCH", ofRoom, Map.of("isBan", true));
        call("unban", "PATCH", ofRoom, Map.of("isBan", false));
        var ppt = Map.of("src", "https://example.org/a.png", "width", 1280.0, "height", 720.0);
        var scenes = List.of(Map.of("name", "page é", "ppt", ppt));
        call("add-scenes", "POST", ofRoom + "/scenes", Map.of("path", "/lesson", "scenes", scenes));
        call("scenes", "GET", ofRoom + "/scenes?sceneDir=%2Flesson");
        call("switch", "PATCH", ofRoom + "/scene-state", Map.of("scenePath", "/lesson/page é"));
        call("screenshot", "POST", ofRoom + "/screenshots", Map.of("width", 144, "height", 104.0, "path", "/init"));
        call("screenshots", "POST", ofRoom + "/screenshot-list",
            Map.of("width", 144, "height", 104, "path", "/lesson"));
        var tasks = "/v5/projector/tasks";
        Map<String, Object> conversion =
            Map.of("resource", "https://example.org/a.pptx", "type", "dynamic", "preview", true);
        var task = uuid(call("convert", "POST", tasks, conversion));
        var waiting = uuid(call("convert-another", "POST", tasks, conversion));
        call("prioritize", "PUT", tasks + "/" + waiting + "/priority", Map.of("priority", "highest"));
        call("progress", "GET", tasks + "/" + task);
        call("task-token", "POST", "/v5/tokens/tasks/" + task, Map.of("lifespan", 0.0, "role", "reader"));
        call("cancel", "DELETE", tasks + "/" + waiting);
        var old = "/v5/services/conversion/tasks";
        var legacy = uuid(call("legacy-convert", "POST", old,
            Map.of("resource", "https://example.org/a.pdf", "type", "static", "scale", 2.0, "pack", false)));
        call("legacy-progress", "GET", old + "/" + legacy + "?type=static");
        // The service fails twice.
        var answer = send("GET", tasks, BodyPublishers.noBody());
        for (int attempt = 0; attempt < 5 && answer.statusCode() >= 500; attempt++) {
            Thread.sleep(100);
            answer = send("GET", tasks, BodyPublishers.noBody());
        }
        say("conversions-retried", answer);
        for (int again = 0; again < 20; again++) {
            answer = send("GET", ofRoom, BodyPublishers.noBody());
        }
        say("kept-alive", answer);
        var flying = new ArrayList<CompletableFuture<HttpResponse<String>>>();
        for (int one = 0; one < 16; one++) {
            flying.add(CLIENT.sendAsync(request("GET", ofRoom, BodyPublishers.noBody(), KEY), BodyHandlers.ofString()));
        }
        Comparator<HttpResponse<String>> byStatus = Comparator.comparingInt(HttpResponse::statusCode);
        say("concurrent", flying.stream().map(CompletableFuture::join).max(byStatus).get());
        // The gateway closes what is idle for a second.
        Thread.sleep(1500);
        call("after-idle", "POST", "/v5/rooms", Map.of());
        call("unknown-room", "GET", "/v5/rooms/none");
        var wrong = request("GET", ofRoom, BodyPublishers.noBody(), KEY.substring(0, KEY.length() - 1));
        say("wrong-key", CLIENT.send(wrong, BodyHandlers.ofString()));
    }
}
