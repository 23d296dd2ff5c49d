//! The requests that are sent, written out once.

use std::cell::Cell;

use anyhow::ensure;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::upstream::SIZE;

/// Everything that one scenario sends, in turn.
pub struct Traffic {
    calls: Vec<Call>,
    /// How many were sent, where each is to be sent once, whichever connection takes it.
    sent: Option<Cell<usize>>,
}

/// A request, and the answers that are right for it.
pub struct Call {
    /// As HTTP/1.1 has it on the wire.
    pub bytes: Vec<u8>,
    method: &'static str,
    path: String,
    key: Option<String>,
    body: Bytes,
    statuses: &'static [u16],
}

const ROOM: &str = "/v5/rooms/4a50c7a0c71f11ea8c2ba7f2b9f8b7a1";
const BODY: &[u8] = br#"{"isRecord":false,"limit":0}"#;

impl Call {
    /// A read that is forwarded.
    pub fn get(key: &str) -> Self {
        Self::new("GET", ROOM.to_owned(), Some(key), Bytes::new(), &[200])
    }

    /// A change with a small body that is forwarded.
    pub fn post(key: &str) -> Self {
        Self::new("POST", "/v5/rooms".to_owned(), Some(key), Bytes::from_static(BODY), &[201])
    }

    /// A read whose answer has so many bytes.
    pub fn long_answer(key: &str, size: usize) -> Self {
        Self::new("GET", format!("/v5/rooms/{SIZE}{size}"), Some(key), Bytes::new(), &[200])
    }

    /// A change whose body has so many bytes.
    pub fn long_body(key: &str, size: usize) -> Self {
        let body = Bytes::from(vec![b'x'; size]);
        Self::new("POST", "/v5/uploads".to_owned(), Some(key), body, &[201])
    }

    /// A read without a key, or with one that is wrong.
    pub fn unknown(key: Option<&str>) -> Self {
        Self::new("GET", ROOM.to_owned(), key, Bytes::new(), &[401])
    }

    /// What this caller may not do.
    pub fn forbidden(key: &str) -> Self {
        Self::new("GET", "/v5/projector/tasks".to_owned(), Some(key), Bytes::new(), &[403])
    }

    /// A read by a caller that is over its limit but for one or two requests.
    pub fn limited(key: &str) -> Self {
        Self::new("GET", ROOM.to_owned(), Some(key), Bytes::new(), &[403, 429, 200])
    }

    /// Every operation of the API, in turn: of a hundred requests, the most ask for tokens and
    /// rooms, as pupils join a lesson; some switch scenes and look at files being converted.
    pub fn school_day(key: &str) -> Vec<Self> {
        const TOKEN: &str = r#"{"lifespan":3600000,"role":"writer"}"#;
        const FILE: &str =
            r#"{"resource":"https://files.example.org/lesson.pptx","type":"static"}"#;
        const PAGES: &str = r#"{"path":"/lesson","scenes":[{"name":"1"},{"name":"2"}]}"#;
        const PICTURE: &str = r#"{"width":640,"height":480,"path":"/init"}"#;
        const TASK: &str = "/v5/projector/tasks/4a50c7a0c71f11ea8c2ba7f2b9f8b7a1";
        const LEGACY_TASK: &str = "/v5/services/conversion/tasks/4a50c7a0c71f11ea8c2ba7f2b9f8b7a1";
        let of = |rest: &str| format!("{ROOM}{rest}");
        let plain = |text: &str| text.to_owned();
        let rows: [(usize, &'static str, String, &'static str); 19] = [
            (30, "POST", plain("/v5/tokens/rooms/4a50c7a0c71f11ea8c2ba7f2b9f8b7a1"), TOKEN),
            (18, "GET", plain(ROOM), ""),
            (10, "PATCH", of("/scene-state"), r#"{"scenePath":"/lesson/2"}"#),
            (8, "GET", plain(TASK), ""),
            (6, "POST", plain("/v5/rooms"), r#"{"isRecord":false,"limit":0}"#),
            (5, "GET", of("/scenes"), ""),
            (4, "POST", of("/scenes"), PAGES),
            (3, "GET", plain("/v5/rooms?limit=100"), ""),
            (3, "POST", plain("/v5/projector/tasks"), FILE),
            (3, "POST", of("/screenshots"), PICTURE),
            (2, "PATCH", plain(ROOM), r#"{"isBan":true}"#),
            (1, "POST", plain("/v5/tokens/teams"), TOKEN),
            (1, "POST", plain("/v5/tokens/tasks/4a50c7a0c71f11ea8c2ba7f2b9f8b7a1"), TOKEN),
            (1, "POST", of("/screenshot-list"), PICTURE),
            (1, "GET", plain("/v5/projector/tasks"), ""),
            (1, "DELETE", plain(TASK), ""),
            (1, "PUT", format!("{TASK}/priority"), r#"{"priority":"highest"}"#),
            (1, "POST", plain("/v5/services/conversion/tasks"), FILE),
            (1, "GET", format!("{LEGACY_TASK}?type=static"), ""),
        ];
        // Spread evenly: what is asked for often must not come in a row.
        let all: usize = rows.iter().map(|(often, ..)| often).sum();
        let mut due: Vec<(usize, usize)> = Vec::with_capacity(all);
        for (row, (often, ..)) in rows.iter().enumerate() {
            due.extend((0..*often).map(|turn| ((2 * turn + 1) * all * 100 / (2 * often), row)));
        }
        due.sort_unstable();
        let call = |row: usize| {
            let (_, method, path, body) = &rows[row];
            let body = Bytes::from_static(body.as_bytes());
            Self::new(method, path.clone(), Some(key), body, &[200, 201])
        };
        due.into_iter().map(|(_, row)| call(row)).collect()
    }

    fn new(
        method: &'static str,
        path: String,
        key: Option<&str>,
        body: Bytes,
        statuses: &'static [u16],
    ) -> Self {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n");
        if let Some(key) = key {
            head += &format!("Authorization: Bearer {key}\r\n");
        }
        head += "region: us-sv\r\nUser-Agent: whiteboard-server/1.0\r\n";
        if !body.is_empty() {
            let length = body.len();
            head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body);
        Self { bytes, method, path, key: key.map(str::to_owned), body, statuses }
    }

    /// Whether that status is right.
    pub fn takes(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// The same request for HTTP/2.
    pub fn request(&self) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("https://localhost{}", self.path))
            .header("accept", "*/*")
            .header("region", "us-sv")
            .header("user-agent", "whiteboard-server/1.0");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if !self.body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        request.body(Full::new(self.body.clone()))
    }
}

impl Traffic {
    /// These calls in turn, over and over.
    pub fn of(calls: Vec<Call>) -> Self {
        Self { calls, sent: None }
    }

    /// Each of these calls once.
    pub fn once(calls: Vec<Call>) -> Self {
        Self { calls, sent: Some(Cell::new(0)) }
    }

    /// The call of that number, or the next one.
    pub fn call(&self, number: usize) -> &Call {
        let number = self.sent.as_ref().map_or(number, |sent| sent.replace(sent.get() + 1));
        &self.calls[number % self.calls.len()]
    }

    /// An error when a call was sent again that was to be sent once.
    pub fn verdict(&self) -> anyhow::Result<()> {
        let (sent, calls) = (self.sent.as_ref().map_or(0, Cell::get), self.calls.len());
        ensure!(sent <= calls, "{sent} requests were sent and there are {calls} different ones");
        Ok(())
    }
}
