//! The clients: small programs in `tests/clients`, each of which makes the calls of a back end and
//! prints a line for each.

use std::process::{Command, Stdio};

use super::page;
use super::route::{Deployment, Http, Route};
use crate::house::root;

/// A program, what it speaks, and why it speaks nothing else.
pub(super) struct Program {
    pub(super) name: &'static str,
    command: &'static [&'static str],
    speaks: &'static [Http],
    otherwise: &'static str,
    calls: &'static [Expected],
}

/// The name of a call, its status, and what is in the answer.
pub(super) type Expected = (&'static str, &'static str, &'static str);

const BOTH: &[Http] = &[Http::One, Http::Two];
const ONE: &[Http] = &[Http::One];

pub(super) const JAVA: Program = Program {
    name: "Java java.net.http, Gson",
    command: &["java", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/gson.jar", "Client.java"],
    speaks: BOTH,
    otherwise: "",
    calls: BACKEND_CALLS,
};
pub(super) const GO: Program = Program {
    name: "Go net/http",
    command: &["go", "run", "client.go"],
    speaks: BOTH,
    otherwise: "",
    calls: BACKEND_CALLS,
};
pub(super) const NODE: Program = Program {
    name: "Node fetch, http2",
    command: &["node", "node.mjs"],
    speaks: BOTH,
    otherwise: "",
    calls: BACKEND_CALLS,
};
pub(super) const REQUESTS: Program = Program {
    name: "Python requests",
    command: &["/usr/bin/python3", "python.py", "requests"],
    speaks: ONE,
    otherwise: "requests speaks HTTP/1.1 alone",
    calls: BACKEND_CALLS,
};
pub(super) const HTTPX: Program = Program {
    name: "Python httpx",
    command: &["/usr/bin/python3", "python.py", "httpx"],
    speaks: BOTH,
    otherwise: "",
    calls: BACKEND_CALLS,
};
pub(super) const PHP: Program = Program {
    name: "PHP curl",
    command: &["php", "client.php"],
    speaks: BOTH,
    otherwise: "",
    calls: BACKEND_CALLS,
};
pub(super) const RUBY: Program = Program {
    name: "Ruby Net::HTTP",
    command: &["ruby", "client.rb"],
    speaks: ONE,
    otherwise: "Net::HTTP speaks HTTP/1.1 alone",
    calls: BACKEND_CALLS,
};

pub(super) const FLAT: Program = Program {
    name: "flat-server's axios 0.21.2",
    command: &["node", "flat.cjs"],
    speaks: ONE,
    otherwise: "axios 0.21 speaks HTTP/1.1 alone",
    calls: FLAT_CALLS,
};

/// A client: a program, or one that runs in a page.
pub(super) enum Client {
    Program(&'static Program),
    FetchMiddleware,
    WhiteWebSdk,
}

/// The columns of the table.
pub(super) const ALL: &[Client] = &[
    Client::Program(&JAVA),
    Client::Program(&GO),
    Client::Program(&NODE),
    Client::Program(&REQUESTS),
    Client::Program(&HTTPX),
    Client::Program(&PHP),
    Client::Program(&RUBY),
    Client::Program(&FLAT),
    Client::FetchMiddleware,
    Client::WhiteWebSdk,
];

impl Client {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Program(program) => program.name,
            Self::FetchMiddleware => "fetch-middleware 1.0.7",
            Self::WhiteWebSdk => "white-web-sdk 2.16.56",
        }
    }

    /// Why it cannot take this route.
    pub(super) fn impossible(&self, route: Route) -> Option<&'static str> {
        route.impossible().or_else(|| match self {
            Self::Program(program) => program.impossible(route),
            Self::FetchMiddleware | Self::WhiteWebSdk => None,
        })
    }

    /// How many calls it makes.
    pub(super) fn calls(&self) -> usize {
        match self {
            Self::Program(program) => program.calls.len(),
            Self::FetchMiddleware => page::FETCH_CALLS.len(),
            Self::WhiteWebSdk => page::SDK_CALLS.len(),
        }
    }

    /// Makes all its calls; gives how many there were, or what went wrong.
    pub(super) fn run(&self, route: Route) -> Result<usize, String> {
        match self {
            Self::Program(program) => program.run(route),
            Self::FetchMiddleware => page::fetch_middleware(route),
            Self::WhiteWebSdk => page::white_web_sdk(route),
        }
    }
}

/// What a back end calls.
const BACKEND_CALLS: &[Expected] = &[
    ("create", "201", r#""uuid":""#),
    ("create-without-body", "201", r#""uuid":""#),
    ("create-streamed", "201", r#""uuid":""#),
    ("create-streamed-nothing", "201", r#""uuid":""#),
    ("create-empty-map", "201", r#""uuid":""#),
    ("token", "201", "\"NETLESSROOM_"),
    ("token-permanent", "201", "\"NETLESSROOM_"),
    ("list", "200", "[{"),
    ("get", "200", r#""uuid":""#),
    ("get-streamed-nothing", "200", r#""uuid":""#),
    ("ban", "201", r#""isBan":true"#),
    ("unban", "201", r#""isBan":false"#),
    ("add-scenes", "201", ""),
    ("scenes", "200", "page é"),
    ("switch", "201", ""),
    ("screenshot", "201", r#""url":"http"#),
    ("screenshots", "201", "http"),
    ("convert", "201", r#""uuid":""#),
    ("convert-another", "201", r#""uuid":""#),
    ("prioritize", "200", ""),
    ("progress", "200", r#""status":""#),
    ("task-token", "201", "\"NETLESSTASK_"),
    ("cancel", "200", ""),
    ("legacy-convert", "201", r#""uuid":""#),
    ("legacy-progress", "200", r#""progress":{"#),
    ("conversions-retried", "200", ""),
    ("kept-alive", "200", r#""uuid":""#),
    ("concurrent", "200", r#""uuid":""#),
    ("after-idle", "201", r#""uuid":""#),
    ("unknown-room", "404", r#""message":""#),
    ("wrong-key", "401", r#""message":""#),
];

/// What flat-server calls, and what it calls by mistake.
const FLAT_CALLS: &[Expected] = &[
    ("create", "201", r#""uuid":""#),
    ("ban", "201", r#""isBan":true"#),
    ("convert-slides", "201", r#""uuid":""#),
    ("convert-pages", "201", r#""uuid":""#),
    ("progress-of-slides", "200", r#""status":""#),
    ("progress-of-pages", "200", r#""status":""#),
    ("legacy-convert", "201", r#""uuid":""#),
    ("legacy-progress", "200", r#""progress":{"#),
    ("conversions-retried", "200", "["),
    ("room-undefined", "400", r#""message":""#),
    ("convert-a-list", "400", r#""message":""#),
    ("convert-numbers", "400", r#""message":""#),
    ("legacy-undefined", "400", r#""message":""#),
];

impl Program {
    /// Why it cannot take this route.
    fn impossible(&self, route: Route) -> Option<&'static str> {
        (!self.speaks.contains(&route.client)).then_some(self.otherwise)
    }

    /// Does all its calls; gives how many there were, or what went wrong.
    fn run(&self, route: Route) -> Result<usize, String> {
        let deployment = Deployment::new(route, route.client == Http::Two, "");
        deployment.fail(2);
        let mut command = Command::new("timeout");
        command.arg("90").args(self.command).current_dir(root().join("tests/clients"));
        command.env("GATEWAY", &deployment.url).env("KEY", &deployment.gateway.key);
        command.env("HTTP_VERSION", route.client.version());
        command.env("NODE_PATH", root().join("target/clients/node_modules"));
        for variable in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"] {
            command.env(variable, &deployment.authority);
        }
        for variable in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let mut wrong = compare(&said, self.calls);
        wrong.extend(deployment.inspect());
        if deployment.faults() != 2 {
            wrong.push("the service was not asked again after it had failed".to_owned());
        }
        if !output.status.success() {
            wrong.push(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        if wrong.is_empty() {
            return Ok(self.calls.len());
        }
        let name = route.name();
        Err(format!("{}, {name}:\n{}\n--- {}", self.name, wrong.join("\n"), deployment.lines()))
    }
}

/// What differs between the lines that were printed and those that should have been.
pub(super) fn compare(said: &str, calls: &[Expected]) -> Vec<String> {
    let mut lines = said.lines();
    let mut wrong = Vec::new();
    for (name, status, part) in calls {
        let line = lines.next().unwrap_or("nothing");
        let begin = format!("{name}\t{status}\t");
        if !line.starts_with(&begin) || !line.contains(part) {
            wrong.push(format!("{name} should be {status} with {part}: {line}"));
        }
    }
    wrong.extend(lines.map(str::to_owned));
    wrong
}
