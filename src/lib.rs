//! whiteboard-gateway: an authenticating reverse proxy and API gateway in front of Agora's
//! Interactive Whiteboard RESTful API.
//!
//! This is the library behind the binary of the same name, and the map of the house. How to use
//! the gateway is in the README; why it is built as it is, in `docs/architecture.md`.
//!
//! # The way of a request
//!
//! A connection is accepted, decrypted and bounded by [`server`], which knows no gateway: it hands
//! each request to a [`server::Service`]. That of this gateway is [`gateway::Gateway`], and the
//! way of a request is one function there, a line for each step and `?` to leave it with a
//! [`failure::Failure`]:
//!
//! 1. **preflight**: a browser asks whether a page may call. Answered without a credential.
//! 2. **browser**: an SDK token that a page sends is refused: 401.
//! 3. **identify**, [`caller::Callers::identify`]: who is calling, by an API key, a JWT, a client
//!    certificate or a whiteboard token of their own? Else 401.
//! 4. **match**, [`api::Operations::find`]: which operation is it? Else 404 or 400.
//! 5. **authorize**, [`policy::Policy::authorize`]: may this caller do it, with this room? Else
//!    403, or 404 for a room that is not theirs.
//! 6. **room**, [`upstream::Pool::check_room`]: is there room at the upstream? Else 500 (or 503).
//! 7. **limit**, [`limit::Limiter::take`]: how often? Else 403 (or 429) with `Retry-After`.
//! 8. **read**: the region, the query and the body, checked against the row of the table
//!    ([`api::Query::normalize`], [`api::check_object`]). Else 400.
//! 9. **admit**, [`policy::Permit::grant`]: the role and the life that a token is asked for,
//!    within the caps. Else 403.
//! 10. **reserve**, [`budget::Budgets::reserve`]: how much is left in this hour, day or month? Else
//!     403 (or 429) with `Retry-After`.
//! 11. **serve**: a token operation is answered here ([`token::Project::mint`]), every other is
//!     forwarded ([`upstream::Upstream::forward`]) with the weakest whiteboard token that will do
//!     ([`token::Credentials`]).
//! 12. **settle**, [`budget::Reservation::settle`]: what came to nothing goes back.
//!
//! What the steps return is recorded once, when the answer is over:
//! [`failure::Failure::answer`] makes the envelope of a failure, [`limit::Allowance::stamp`] adds
//! what is left of the limits, [`telemetry::Recorder::record`] counts and writes the access line.
//!
//! # The map of the house
//!
//! | module | is for | and never |
//! | --- | --- | --- |
//! | [`api`] | the whiteboard API as data: [`api::TABLE`], matching, checks of bodies, OpenAPI | says who may do it |
//! | [`failure`] | everything that can go wrong: [`failure::Code`], statuses, the envelope | does I/O |
//! | [`caller`] | credentials to a [`caller::Caller`] and its [`policy::Rights`] | says what a profile allows |
//! | [`certificate`] | the names in a client certificate | trusts one |
//! | [`policy`] | profiles and rights to a decision with its reason | looks at a credential |
//! | [`policy_diff`] | what a change of the policy gives and takes | decides: it asks `policy` |
//! | [`limit`] | rates, the `RateLimit` fields, failed credentials by address | knows a caller or a request |
//! | [`budget`] | how much callers get in an hour, a day or a month, written down | gives out what it cannot count |
//! | [`trace`] | which trace a request belongs to, and which are recorded | says whose word is taken |
//! | [`otlp`] | spans and metrics to a collector | holds up a request |
//! | [`field`] | names of fields, and the parser of lists, quoted strings and weights | knows what a value means |
//! | [`text`] | text from files, variables, standard input and bodies: one rule | knows what it says |
//! | [`net`] | what everything that goes out stands on: URLs, names, connections, TLS, a small client | knows whom it goes to |
//! | [`token`] | whiteboard tokens: format, keys of a project, secrets | does I/O |
//! | [`store`] | a Redis or Valkey that several gateways share: scripts run within a deadline | knows what is kept there |
//! | [`upstream`] | connections to the whiteboard service, and what its answers mean | passes on what is not on a list |
//! | [`server`] | listeners, workers, TLS, bounds of a connection, draining | knows what it serves |
//! | [`edge`] | what the head of a request says before its caller is known | knows who calls |
//! | [`gateway`] | the way of a request | holds a rule of its own |
//! | [`expiry`] | what ends by the clock: keys, tokens, certificates | refuses anything |
//! | [`metric`] | what a metric is, and the text of Prometheus | knows any metric |
//! | [`overview`] | what happened in the last hour: minutes, failures, callers by use | keeps a worker waiting |
//! | [`telemetry`] | the log, the access line, metrics, the audit | holds a secret or decides |
//! | [`admin`] | the second listener: health, metrics, the OpenAPI document | changes anything |
//! | [`config`] | a file and the environment to the `Settings` of each module | repeats a value in an error |
//! | [`sandbox`] | a stand-in for the whiteboard service | knows the gateway in front of it |
//! | [`cli`] | the commands, one file each | takes a secret as an argument |
//!
//! Who may import whom is in `tests/it/house.rs`, which holds the sources to it.
#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod background;
pub mod budget;
mod bulk;
pub mod caller;
pub mod certificate;
pub mod cli;
mod clock;
pub mod config;
pub mod edge;
pub mod expiry;
pub mod failure;
pub mod field;
pub mod gateway;
pub mod limit;
pub mod metric;
pub mod net;
pub mod otlp;
pub mod overview;
pub mod policy;
pub mod policy_diff;
pub mod sandbox;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod token;
pub mod trace;
pub mod upstream;
