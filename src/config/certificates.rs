//! Names in client certificates: whose they are, and from which authority they are believed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::build::Build;
use super::file::{KeyPath, section};
use super::value::{DnsName, SpiffeName, SubjectName};
use crate::caller::{CertificateSettings, Transport};
use crate::certificate::{AuthorityName, Name};
use crate::server::ListenerSettings;

section! {
    pub(super) struct CertificateName ("a table such as { spiffe = \"spiffe://example.org/proxy\" } or { dns = \"proxy.example.org\" }") {
        /// The SPIFFE id of a client certificate that only secures the transport, such as a
        /// proxy's, and identifies no caller. Each entry of the list has one of `spiffe`, `dns` and
        /// `subject`; `"all"` instead of the list means all certificates. See
        /// [mtls.md](mtls.md#behind-a-proxy).
        spiffe: Option<SpiffeName>;
        /// One of its DNS names.
        dns: Option<DnsName>;
        /// Its whole subject.
        subject: Option<SubjectName>;
    }
}

section! {
    pub(super) struct CallerCertificate ("a table such as { spiffe = \"spiffe://example.org/app\" }, { dns = \"app.example.org\" } or { subject = \"CN=app,O=Example\" }") {
        /// A SPIFFE id, the only URI in a certificate. Each entry of the list has one of `spiffe`,
        /// `dns` and `subject`; a certificate with any of these names is this caller's, and no two
        /// callers have the same name.
        spiffe: Option<SpiffeName>;
        /// A DNS name among the alternative names of a certificate.
        dns: Option<DnsName>;
        /// The whole subject of a certificate, as `openssl x509 -noout -subject -nameopt RFC2253`
        /// prints it.
        subject: Option<SubjectName>;
        /// The name in `listen.tls.client_ca` of the authority that may give the name.
        authority: Option<String> => "any";
    }
}

/// The kinds of names, one of which an entry has.
type Kinds<'a> = (&'a Option<SpiffeName>, &'a Option<DnsName>, &'a Option<SubjectName>);

/// The names of callers so far, with their authorities.
pub(super) type SeenNames = BTreeMap<Name, Vec<(Option<AuthorityName>, KeyPath)>>;

/// What certificates of clients can say here.
#[derive(Default)]
pub(super) struct Certified {
    /// The names of authorities; none where `client_ca` is a file.
    names: BTreeSet<String>,
    /// Whether there is more than one of them.
    several: bool,
    /// The authority of each trust domain.
    trust_domains: HashMap<String, String>,
    /// Whether clients are asked for certificates, and these may identify them.
    identify: bool,
    /// The keys of the authorities, of each listener that has some.
    asked: Vec<KeyPath>,
    transport: HashSet<Name>,
}

/// A listener that asks clients for certificates.
pub(super) struct AskingListener {
    /// The path of its `tls` table.
    pub(super) path: KeyPath,
    /// Its index among the listeners.
    pub(super) index: usize,
    pub(super) transport: Transport,
}

impl Certified {
    /// What the authorities of clients are called.
    fn authorities(&self) -> String {
        match self.asked.as_slice() {
            [one] => one.to_string(),
            [] => "listen.tls.client_ca".to_owned(),
            _ => "the client_ca of listeners".to_owned(),
        }
    }
}

impl Build<'_> {
    /// What certificates can say at these of the listeners.
    pub(super) fn certified(
        &mut self,
        listeners: &[ListenerSettings],
        asking: &[AskingListener],
    ) -> Certified {
        let mut certified = Certified::default();
        let mut files: BTreeMap<AuthorityName, (PathBuf, KeyPath)> = BTreeMap::new();
        let (mut unnamed, mut transport) = (BTreeSet::new(), None::<HashSet<Name>>);
        for AskingListener { path, index, transport: only } in asking {
            let tls = listeners.get(*index).and_then(|listener| listener.tls.as_ref());
            let Some(client) = tls.and_then(|tls| tls.client.as_ref()) else { continue };
            certified.asked.push(path.key("client_ca"));
            let names = match only {
                // No one is identified there, whatever a certificate says.
                Transport::All => continue,
                Transport::Names(names) => names,
            };
            certified.identify = true;
            // A name that identifies no one at one listener may be a caller's at another.
            transport = Some(match transport {
                None => names.clone(),
                Some(others) => others.intersection(names).cloned().collect(),
            });
            for one in &client.authorities {
                if one.name.is_empty() {
                    certified.several |= self.roots(one) > 1;
                    unnamed.insert(one.file.clone());
                    continue;
                }
                let own = path.key("client_ca").key(&one.name);
                let known = files.entry(Arc::clone(&one.name));
                let known = known.or_insert_with(|| (one.file.clone(), own.clone()));
                let why = format_args!(
                    "is another file than `{}`: an authority has one name, and each name is one \
                     authority",
                    known.1
                );
                self.wrong_if(known.0 != one.file, &own, why);
            }
            for (domain, name) in &client.trust_domains {
                let known = certified.trust_domains.entry(domain.to_string());
                let known = known.or_insert_with(|| name.to_string());
                let why =
                    "is given to another authority by another listener: a trust domain has one";
                let own = path.key("trust_domains").key(domain);
                self.wrong_if(**known != **name, &own, why);
            }
        }
        certified.several |= files.len() + unnamed.len() > 1;
        certified.names = files.into_keys().map(|name| name.to_string()).collect();
        certified.transport = transport.unwrap_or_default();
        certified
    }

    /// The one name of an entry.
    pub(super) fn certificate_name(&mut self, path: &KeyPath, kinds: Kinds<'_>) -> Option<Name> {
        let (spiffe, dns, subject) = kinds;
        let names = [
            spiffe.as_ref().map(|name| &name.0),
            dns.as_ref().map(|name| &name.0),
            subject.as_ref().map(|name| &name.0),
        ];
        let written: Vec<&Name> = names.into_iter().flatten().collect();
        match written.as_slice() {
            [name] => return Some((*name).clone()),
            [] => {
                let broken = self.any_removed(path, &["spiffe", "dns", "subject"]);
                self.wrong_if(!broken, path, "must have one of spiffe, dns and subject");
            }
            _ => {
                let why = "must have one of spiffe, dns and subject: a certificate needs only one \
                           of the names in this list";
                self.wrong(path, why);
            }
        }
        None
    }

    /// The names by which a caller's certificates are known. `seen` are those of others.
    pub(super) fn caller_names(
        &mut self,
        certificates: &[CallerCertificate],
        certified: &Certified,
        seen: &mut SeenNames,
    ) -> Vec<CertificateSettings> {
        let mut names = Vec::with_capacity(certificates.len());
        for CallerCertificate { path, spiffe, dns, subject, authority } in certificates {
            let Some(name) = self.certificate_name(path, (spiffe, dns, subject)) else { continue };
            if let Some(authority) = authority {
                let known = certified.names.iter().map(String::as_str);
                let of = certified.authorities();
                self.is_authority(&path.key("authority"), authority, &of, known);
            }
            self.check_authority(path, &name, authority.as_ref(), certified);
            let authority: Option<AuthorityName> = authority.as_deref().map(Arc::from);
            let others = seen.entry(name.clone()).or_default();
            let same = |(other, _): &&(Option<AuthorityName>, KeyPath)| {
                other.as_ref().zip(authority.as_ref()).is_none_or(|(other, own)| other == own)
            };
            if let Some((_, other)) = others.iter().find(same) {
                self.wrong(path, format_args!("is the same name as `{other}`"));
            }
            others.push((authority.clone(), path.clone()));
            names.push(CertificateSettings { name, authority });
        }
        names
    }

    /// Whether it is clear from whom a name is believed.
    fn check_authority(
        &mut self,
        path: &KeyPath,
        name: &Name,
        authority: Option<&String>,
        certified: &Certified,
    ) {
        let why = "is a name of listen.tls.transport_certificates: a certificate that only \
                   secures the transport identifies no caller";
        self.wrong_if(certified.transport.contains(name), path, why);
        let mapped = name.trust_domain().and_then(|domain| certified.trust_domains.get(domain));
        match (authority, mapped) {
            (Some(own), Some(mapped)) => {
                let why = "is of a trust domain that listen.tls.trust_domains gives to another \
                           authority: no certificate could show it";
                self.wrong_if(own != mapped, &path.key("authority"), why);
            }
            (None, None) if certified.several => {
                let cure = if certified.names.is_empty() {
                    "give them names there, client_ca = { ours = \"path\", partner = \"path\" }, and \
                     write authority = \"ours\" here"
                } else {
                    "write authority = \"…\" here, or give its SPIFFE trust domain one in \
                     listen.tls.trust_domains"
                };
                let why = format_args!(
                    "does not say which authority it is believed from, and {} has several, each of \
                     which can issue this name: {cure}",
                    certified.authorities()
                );
                self.warn(path, why);
            }
            _ => {}
        }
    }

    /// Warns where certificates are listed and none is ever looked at.
    pub(super) fn check_seen(&mut self, path: &KeyPath, certified: &Certified) {
        let why = if certified.asked.is_empty() {
            "can never be seen: no client is asked for a certificate without listen.tls.client_ca"
        } else if !certified.identify {
            "can never count: listen.tls.transport_certificates = \"all\" says that certificates \
             only secure the transport"
        } else {
            return;
        };
        self.warn(path, why);
    }
}
