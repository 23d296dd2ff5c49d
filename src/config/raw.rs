//! The file, as it says: every key, its type, and nothing that follows from it.
//!
//! Unknown keys are refused. `None` is a key that is left out; what that means is decided in
//! `build`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::certificates::{CallerCertificate, ClientCa, TransportCertificates};
use super::claim::{self, Claim, ClaimOr, Rooms};
use super::store_url::{Prefix, StoreMode, StoreUrl};
use super::value::{Attempts, Count, Frequency, OneOrMore, Percent, Size, Written};
use super::word::{
    Access, AddedMethod, AdminAddress, Audience, AuditPlace, BodyKind, ClientAuth, ContentType,
    FilePath, IssuerName, LimitStatus, Pseudonym, RegionName, Success, Token, TokenType,
};
use crate::api::{Lifespan, Priority, Role, TargetKind, UnknownFields};
use crate::budget::{BudgetUnit, Period, Whose, Zone};
use crate::caller::jwt::{Algorithm, HttpsUrl};
use crate::caller::{Digest, KeyId};
use crate::edge::{ClientField, OriginPattern};
use crate::limit::OnStoreError;
use crate::otlp::Endpoint;
use crate::policy::Excess;
use crate::telemetry::{AuditMode, Format, Level};
use crate::token::{KeyState, TokenHash};
use crate::trace::{Parents, Share};
use crate::upstream::Origin;
use crate::{failure, token};

/// A key that may be left out.
type Maybe<T> = Option<Written<T>>;

/// The whole file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct File {
    pub(super) listen: Listen,
    pub(super) admin: Admin,
    pub(super) upstream: Upstream,
    pub(super) cors: Option<Cors>,
    pub(super) errors: Errors,
    pub(super) body: Body,
    pub(super) limits: Limits,
    pub(super) store: Store,
    pub(super) log: Log,
    pub(super) audit: Option<Audit>,
    pub(super) otlp: Option<Otlp>,
    pub(super) budgets: Budgets,
    pub(super) projects: BTreeMap<String, Project>,
    pub(super) denied: Vec<Denied>,
    pub(super) profiles: BTreeMap<String, Profile>,
    pub(super) callers: BTreeMap<String, Caller>,
    pub(super) issuers: BTreeMap<String, Issuer>,
    pub(super) operations: Vec<Operation>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Listen {
    pub(super) address: Option<OneOrMore<SocketAddr>>,
    pub(super) share: Maybe<bool>,
    pub(super) workers: Maybe<Count>,
    pub(super) trusted_proxies: Vec<Written<ipnet::IpNet>>,
    pub(super) client_address: Maybe<ClientField>,
    pub(super) head_bytes: Maybe<Size>,
    pub(super) head_timeout: Maybe<Duration>,
    pub(super) idle_timeout: Maybe<Duration>,
    pub(super) write_timeout: Maybe<Duration>,
    pub(super) max_streams: Maybe<Count>,
    pub(super) max_overhead_frames: Maybe<Count>,
    pub(super) max_connections: Maybe<Count>,
    pub(super) max_connections_per_address: Maybe<Count>,
    pub(super) pre_drain: Maybe<Duration>,
    pub(super) drain: Maybe<Duration>,
    pub(super) tls: Option<Tls>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Tls {
    pub(super) certificate: Maybe<FilePath>,
    pub(super) key: Maybe<FilePath>,
    pub(super) client_ca: Option<ClientCa>,
    pub(super) trust_domains: BTreeMap<String, Written<String>>,
    pub(super) transport_certificates: Option<TransportCertificates>,
    pub(super) client_crl: Option<OneOrMore<FilePath>>,
    pub(super) client_auth: Maybe<ClientAuth>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Admin {
    pub(super) address: Maybe<AdminAddress>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Upstream {
    pub(super) url: Maybe<Origin>,
    pub(super) region: Maybe<RegionName>,
    pub(super) regions: Vec<Written<RegionName>>,
    pub(super) ca: Maybe<FilePath>,
    pub(super) http2: Maybe<bool>,
    pub(super) connect_timeout: Maybe<Duration>,
    pub(super) first_byte_timeout: Maybe<Duration>,
    pub(super) first_byte_timeout_slow: Maybe<Duration>,
    pub(super) between_bytes_timeout: Maybe<Duration>,
    pub(super) timeout: Maybe<Duration>,
    pub(super) timeout_slow: Maybe<Duration>,
    pub(super) idle_timeout: Maybe<Duration>,
    pub(super) max_idle: Maybe<Count>,
    pub(super) max_in_flight: Maybe<Count>,
    pub(super) min_in_flight: Maybe<Count>,
    pub(super) adaptive: Maybe<bool>,
    pub(super) via: Maybe<Pseudonym>,
    pub(super) send_request_id: Maybe<bool>,
    pub(super) send_traceparent: Maybe<bool>,
    pub(super) retry: Retry,
    pub(super) breaker: Breaker,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Retry {
    pub(super) attempts: Maybe<Attempts>,
    pub(super) budget: Maybe<Percent>,
    pub(super) backoff: Maybe<Duration>,
    pub(super) max_backoff: Maybe<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Breaker {
    pub(super) enabled: Maybe<bool>,
    pub(super) failures: Maybe<Count>,
    pub(super) failed: Maybe<Percent>,
    pub(super) requests: Maybe<Count>,
    pub(super) window: Maybe<Duration>,
    pub(super) open: Maybe<Duration>,
    pub(super) max_open: Maybe<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Cors {
    pub(super) origins: Option<Vec<Written<OriginPattern>>>,
    pub(super) max_age: Maybe<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Errors {
    pub(super) profile: Maybe<failure::Profile>,
    pub(super) rate_limit_status: Maybe<LimitStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Body {
    pub(super) max_bytes: Maybe<Size>,
    pub(super) timeout: Maybe<Duration>,
    pub(super) unknown_fields: Maybe<UnknownFields>,
    pub(super) content_type: Maybe<ContentType>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Limits {
    pub(super) gateway: Option<Rate>,
    pub(super) failed_credentials: Option<Throttle>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { rate = \"200/s\", burst = 400 }, where burst may be left out"
)]
pub(super) struct Rate {
    pub(super) rate: Maybe<Frequency>,
    pub(super) burst: Maybe<Count>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Store {
    pub(super) url: Option<OneOrMore<StoreUrl>>,
    pub(super) mode: Maybe<StoreMode>,
    pub(super) master: Maybe<String>,
    pub(super) username: Maybe<String>,
    pub(super) password: Option<Secret>,
    pub(super) sentinel_password: Option<Secret>,
    pub(super) ca: Maybe<FilePath>,
    pub(super) timeout: Maybe<Duration>,
    pub(super) prefix: Maybe<Prefix>,
    pub(super) replicas: Maybe<Count>,
    pub(super) lease: Maybe<bool>,
}

impl Store {
    /// Whether it says anything that needs a store.
    pub(super) const fn is_about_a_store(&self) -> bool {
        self.mode.is_some()
            || self.master.is_some()
            || self.username.is_some()
            || self.password.is_some()
            || self.sentinel_password.is_some()
            || self.ca.is_some()
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Log {
    pub(super) level: Maybe<Level>,
    pub(super) format: Maybe<Format>,
    pub(super) access: Maybe<Access>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Audit {
    pub(super) file: Maybe<AuditPlace>,
    pub(super) mode: Maybe<AuditMode>,
    pub(super) sync: Maybe<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Otlp {
    pub(super) endpoint: Maybe<Endpoint>,
    pub(super) headers: BTreeMap<String, Secret>,
    pub(super) ca: Maybe<FilePath>,
    pub(super) timeout: Maybe<Duration>,
    pub(super) resource: BTreeMap<String, Written<String>>,
    pub(super) traces: Traces,
    pub(super) metrics: Measured,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Traces {
    pub(super) enabled: Maybe<bool>,
    pub(super) sample: Maybe<Share>,
    pub(super) sampled_parents: Maybe<Parents>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Measured {
    pub(super) enabled: Maybe<bool>,
    pub(super) interval: Maybe<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Budgets {
    pub(super) file: Maybe<FilePath>,
    pub(super) time_zone: Maybe<Zone>,
    pub(super) ahead: Maybe<Count>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Project {
    pub(super) keys: Option<Vec<ProjectKey>>,
    pub(super) sdk_token: Option<Secret>,
    pub(super) token_profile: Maybe<String>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { access_key = \"…\", secret_key = { env = \"NAME\" } }"
)]
pub(super) struct ProjectKey {
    pub(super) access_key: Maybe<String>,
    pub(super) secret_key: Option<Secret>,
    pub(super) state: Maybe<KeyState>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Denied {
    pub(super) access_key: Maybe<String>,
    pub(super) nonce: Maybe<String>,
    pub(super) sha256: Maybe<TokenHash>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Profile {
    pub(super) project: Maybe<String>,
    pub(super) allow: Vec<Written<String>>,
    pub(super) rooms: Option<Rooms>,
    pub(super) role: Maybe<Role>,
    pub(super) max_lifespan: Maybe<Lifespan>,
    pub(super) over_cap: OverCap,
    pub(super) limit: Option<Rate>,
    pub(super) shared_limit: Option<Rate>,
    pub(super) priority: Maybe<Priority>,
    pub(super) trust_traceparent: Maybe<bool>,
    pub(super) on_store_error: Maybe<OnStoreError>,
    pub(super) budgets: Vec<Budget>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { of = \"tokens\", most = 10000, per = \"month\", for = \"caller\" }"
)]
pub(super) struct Budget {
    pub(super) of: Maybe<BudgetUnit>,
    pub(super) most: Maybe<Count>,
    pub(super) per: Maybe<Period>,
    #[serde(rename = "for")]
    pub(super) whose: Maybe<Whose>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { lifespan = \"clamp\", role = \"refuse\" }"
)]
pub(super) struct OverCap {
    pub(super) lifespan: Maybe<Excess>,
    pub(super) role: Maybe<Excess>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Caller {
    pub(super) profile: Maybe<String>,
    pub(super) keys: Vec<CallerKey>,
    pub(super) certificates: Vec<CallerCertificate>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { id = \"…\", digest = \"sha256:…\" }"
)]
pub(super) struct CallerKey {
    pub(super) id: Maybe<KeyId>,
    pub(super) digest: Maybe<Digest>,
    pub(super) until: Maybe<jiff::Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Issuer {
    pub(super) issuer: Maybe<IssuerName>,
    pub(super) audience: Option<OneOrMore<Audience>>,
    pub(super) jwks: Maybe<HttpsUrl>,
    pub(super) discovery: Maybe<bool>,
    pub(super) key_file: Maybe<FilePath>,
    pub(super) secret: Option<Secret>,
    pub(super) algorithms: Option<Vec<Written<Algorithm>>>,
    pub(super) leeway: Maybe<Duration>,
    pub(super) max_lifetime: Maybe<Duration>,
    pub(super) typ: Maybe<TokenType>,
    pub(super) id_tokens: Maybe<bool>,
    pub(super) ca: Maybe<FilePath>,
    pub(super) max_stale: Maybe<Duration>,
    pub(super) profile: Option<claim::Profile>,
    pub(super) rooms: Option<Rooms>,
    pub(super) role: Option<ClaimOr<Role>>,
    pub(super) max_lifespan: Option<ClaimOr<Lifespan>>,
    pub(super) caller: Option<Claim>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Operation {
    pub(super) name: Maybe<String>,
    pub(super) method: Maybe<AddedMethod>,
    pub(super) path: Maybe<String>,
    pub(super) token: Maybe<Token>,
    pub(super) role: Maybe<Role>,
    pub(super) body: Maybe<BodyKind>,
    pub(super) success: Maybe<Success>,
    pub(super) target: Maybe<TargetKind>,
    pub(super) slow: Maybe<bool>,
}

/// A secret, or where it is. No `Debug`.
pub(super) enum Secret {
    Inline(token::Secret),
    Variable(String),
    File(FilePath),
}

const SECRET: &str = "{ env = \"NAME\" }, { file = \"path\" } or a string";

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reference {
    env: Maybe<String>,
    file: Maybe<FilePath>,
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Where;

        impl<'de> Visitor<'de> for Where {
            type Value = Secret;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(SECRET)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::Inline(token::Secret::new(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
                let place = Reference::deserialize(MapAccessDeserializer::new(map))?;
                match (place.env, place.file) {
                    (Some(Written(name)), None) => Ok(Secret::Variable(name)),
                    (None, Some(Written(path))) => Ok(Secret::File(path)),
                    _ => Err(A::Error::custom(format_args!(
                        "must be {SECRET}: exactly one of env and file"
                    ))),
                }
            }
        }

        deserializer.deserialize_any(Where)
    }
}

/// A rate, or no bound at all.
#[derive(Clone, Copy)]
pub(super) enum Throttle {
    Off,
    At(Rate),
}

impl<'de> Deserialize<'de> for Throttle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const ALLOWED: &str = "a table such as { rate = \"3000/m\", burst = 3000 }, or \"off\"";

        struct RateOrOff;

        impl<'de> Visitor<'de> for RateOrOff {
            type Value = Throttle;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(ALLOWED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Throttle, E> {
                match text {
                    // What a variable can say of `false`.
                    "off" | "false" => Ok(Throttle::Off),
                    _ => Err(E::custom(format_args!("must be {ALLOWED}, found another string"))),
                }
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Throttle, E> {
                if value {
                    return Err(E::custom(format_args!("must be {ALLOWED}, found true")));
                }
                Ok(Throttle::Off)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Throttle, A::Error> {
                Rate::deserialize(MapAccessDeserializer::new(map)).map(Throttle::At)
            }
        }

        deserializer.deserialize_any(RateOrOff)
    }
}
