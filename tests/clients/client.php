<?php
// The calls of a back end by curl; docs/clients.md says which.
// Each call is a line: its name, the status, and the body.

$gateway = getenv('GATEWAY');
$key = getenv('KEY');
$version = getenv('HTTP_VERSION') === '2' ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1;
$curl = curl_init();

// The body: none, a text, or a list of parts that come one by one.
function prepare($curl, string $method, string $path, $body, ?string $token = null): void
{
    global $gateway, $key, $version;
    curl_reset($curl);
    curl_setopt_array($curl, [
        CURLOPT_URL => $gateway . $path,
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_HTTPHEADER => ['token: ' . ($token ?? $key)],
        CURLOPT_HTTP_VERSION => $version,
        CURLOPT_CAINFO => getenv('SSL_CERT_FILE'),
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 5,
    ]);
    if (is_array($body)) {
        // Of no known size: chunks, and `Expect: 100-continue` in HTTP/1.1.
        curl_setopt($curl, CURLOPT_UPLOAD, true);
        curl_setopt($curl, CURLOPT_READFUNCTION, function () use (&$body) {
            return array_shift($body) ?? '';
        });
    } elseif ($body !== null) {
        // Labelled as a form, as libcurl does with what is no form as well.
        curl_setopt($curl, CURLOPT_POSTFIELDS, $body);
    }
}

function send(string $method, string $path, $body = null, ?string $token = null): array
{
    global $curl, $version;
    prepare($curl, $method, $path, $body, $token);
    $text = curl_exec($curl);
    if ($text === false) {
        throw new Exception("$method $path: " . curl_error($curl));
    }
    $came = curl_getinfo($curl, CURLINFO_HTTP_VERSION);
    if ($came !== ($version === CURL_HTTP_VERSION_1_1 ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2_0)) {
        throw new Exception("HTTP version $came");
    }
    return [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), $text];
}

function say(string $name, array $answer): mixed
{
    echo $name, "\t", $answer[0], "\t", $answer[1], "\n";
    return json_decode($answer[1]);
}

function call(string $name, string $method, string $path, ?array $body = null): mixed
{
    return say($name, send($method, $path, $body === null ? null : json_encode($body)));
}

$room = call('create', 'POST', '/v5/rooms', ['isRecord' => false, 'limit' => 0])->uuid;
$ofRoom = "/v5/rooms/$room";
call('create-without-body', 'POST', '/v5/rooms');
say('create-streamed', send('POST', '/v5/rooms', ['{"isRecord":', 'false}']));
say('create-streamed-nothing', send('POST', '/v5/rooms', []));
// An empty map is an empty list: []
call('create-empty-map', 'POST', '/v5/rooms', []);
$asked = json_encode(['lifespan' => 3600 * 1e3, 'role' => 'reader'], JSON_PRESERVE_ZERO_FRACTION);
say('token', send('POST', "/v5/tokens/rooms/$room", $asked));
call('token-permanent', 'POST', "/v5/tokens/rooms/$room", ['lifespan' => PHP_INT_MAX, 'role' => 'reader']);
call('list', 'GET', '/v5/rooms?' . http_build_query(['limit' => 2]));
call('get', 'GET', $ofRoom);
say('get-streamed-nothing', send('GET', $ofRoom, []));
call('ban', 'PATCH', $ofRoom, ['isBan' => true]);
call('unban', 'PATCH', $ofRoom, ['isBan' => false]);
$ppt = ['src' => 'https://example.org/a.png', 'width' => 1280.0, 'height' => 720.0];
call('add-scenes', 'POST', "$ofRoom/scenes", ['path' => '/lesson', 'scenes' => [['name' => 'page é', 'ppt' => $ppt]]]);
call('scenes', 'GET', "$ofRoom/scenes?" . http_build_query(['sceneDir' => '/lesson']));
call('switch', 'PATCH', "$ofRoom/scene-state", ['scenePath' => '/lesson/page é']);
$picture = ['width' => 144, 'height' => 104, 'path' => '/init'];
call('screenshot', 'POST', "$ofRoom/screenshots", $picture);
call('screenshots', 'POST', "$ofRoom/screenshot-list", ['path' => '/lesson'] + $picture);
$tasks = '/v5/projector/tasks';
$conversion = ['resource' => 'https://example.org/a.pptx', 'type' => 'dynamic', 'preview' => true];
$task = call('convert', 'POST', $tasks, $conversion)->uuid;
$waiting = call('convert-another', 'POST', $tasks, $conversion)->uuid;
call('prioritize', 'PUT', "$tasks/$waiting/priority", ['priority' => 'highest']);
call('progress', 'GET', "$tasks/$task");
call('task-token', 'POST', "/v5/tokens/tasks/$task", ['lifespan' => 0, 'role' => 'reader']);
call('cancel', 'DELETE', "$tasks/$waiting");
$static = ['resource' => 'https://example.org/a.pdf', 'type' => 'static', 'scale' => 2.0, 'pack' => false];
$legacy = call('legacy-convert', 'POST', '/v5/services/conversion/tasks', $static)->uuid;
call('legacy-progress', 'GET', "/v5/services/conversion/tasks/$legacy?type=static");
// The service fails twice.
for ($attempt = 0; $attempt < 5; $attempt++) {
    $answer = send('GET', $tasks);
    if ($answer[0] < 500) {
        break;
    }
    usleep(100_000);
}
say('conversions-retried', $answer);
for ($again = 0; $again < 20; $again++) {
    $answer = send('GET', $ofRoom);
}
say('kept-alive', $answer);
$several = curl_multi_init();
$handles = array_map(fn () => curl_init(), range(1, 16));
foreach ($handles as $handle) {
    prepare($handle, 'GET', $ofRoom, null);
    curl_multi_add_handle($several, $handle);
}
do {
    curl_multi_exec($several, $running);
    curl_multi_select($several);
} while ($running > 0);
$answers = array_map(
    fn ($handle) => [curl_getinfo($handle, CURLINFO_RESPONSE_CODE), curl_multi_getcontent($handle)],
    $handles,
);
say('concurrent', max($answers));
// The gateway closes what is idle for a second.
usleep(1_500_000);
call('after-idle', 'POST', '/v5/rooms', []);
call('unknown-room', 'GET', '/v5/rooms/none');
say('wrong-key', send('GET', $ofRoom, null, substr($key, 0, -1)));
