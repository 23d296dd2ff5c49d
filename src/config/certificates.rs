//! Values that are about client certificates: whose they are, what they are known by, and which of
//! them only secure the transport.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::value::{Parse as _, Written, refused};
use super::word::{DnsName, FilePath, SpiffeName, SubjectName};

/// The authorities of clients: a file of them, or a file for each by its name.
pub(super) enum ClientCa {
    File(FilePath),
    Named(BTreeMap<String, Written<FilePath>>),
}

const CLIENT_CA: &str =
    "the path of a PEM file, or a table of names and paths such as { ours = \"ours.pem\" }";

impl<'de> Deserialize<'de> for ClientCa {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FileOrNamed;

        impl<'de> Visitor<'de> for FileOrNamed {
            type Value = ClientCa;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(CLIENT_CA)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ClientCa, E> {
                FilePath::text(text).map(ClientCa::File).map_err(refused::<FilePath, E>)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClientCa, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(ClientCa::Named)
            }
        }

        deserializer.deserialize_any(FileOrNamed)
    }
}

/// Certificates that identify nobody: those of proxies, above all.
pub(super) enum TransportCertificates {
    All,
    Names(Vec<CertificateName>),
}

const TRANSPORT: &str = "\"all\", or a list of names such as [{ dns = \"proxy.example.org\" }]";

impl<'de> Deserialize<'de> for TransportCertificates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AllOrNames;

        impl<'de> Visitor<'de> for AllOrNames {
            type Value = TransportCertificates;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(TRANSPORT)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TransportCertificates, E> {
                if text == "all" {
                    return Ok(TransportCertificates::All);
                }
                Err(E::custom(format_args!("must be {TRANSPORT}, found another string")))
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                list: A,
            ) -> Result<TransportCertificates, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(TransportCertificates::Names)
            }
        }

        deserializer.deserialize_any(AllOrNames)
    }
}

/// A name in a certificate.
#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { spiffe = \"spiffe://example.org/proxy\" } or \
                 { dns = \"proxy.example.org\" }"
)]
pub(super) struct CertificateName {
    pub(super) spiffe: Option<Written<SpiffeName>>,
    pub(super) dns: Option<Written<DnsName>>,
    pub(super) subject: Option<Written<SubjectName>>,
}

/// A name by which a caller is known, and the authority that it is believed from.
#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { spiffe = \"spiffe://example.org/app\" }, { dns = \"app.example.org\" } \
                 or { subject = \"CN=app,O=Example\" }"
)]
pub(super) struct CallerCertificate {
    pub(super) spiffe: Option<Written<SpiffeName>>,
    pub(super) dns: Option<Written<DnsName>>,
    pub(super) subject: Option<Written<SubjectName>>,
    pub(super) authority: Option<Written<String>>,
}
