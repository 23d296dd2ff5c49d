//! `[listen.tls]`: client certificates, their authorities, and the names in them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::Build;
use crate::caller::{CertificateSettings, Transport};
use crate::certificate::{Authority, Name};
use crate::config::certificates::{
    CallerCertificate, CertificateName, ClientCa, TransportCertificates,
};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::Written;
use crate::config::word::{ClientAuth, DnsName, SpiffeName, SubjectName};
use crate::server::{AuthoritySettings, ClientSettings};
use crate::text;

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
    pub(super) identify: bool,
    asked: bool,
    transport: HashSet<Name>,
}

/// The kinds of names, one of which an entry has.
type Kinds<'a> = (
    &'a Option<Written<SpiffeName>>,
    &'a Option<Written<DnsName>>,
    &'a Option<Written<SubjectName>>,
);

impl Build<'_> {
    pub(super) fn client_auth(
        &mut self,
        path: &KeyPath,
        raw: &raw::Tls,
        readable: &mut bool,
    ) -> Option<ClientSettings> {
        let Some(ca) = &raw.client_ca else {
            let lost = [
                ("client_crl", raw.client_crl.is_some()),
                ("client_auth", raw.client_auth.is_some()),
                ("trust_domains", !raw.trust_domains.is_empty()),
                ("transport_certificates", raw.transport_certificates.is_some()),
            ];
            for (name, _) in lost.iter().filter(|(_, written)| *written) {
                let why = "means nothing without client_ca, the authorities of clients";
                if !self.report.was_removed(&path.key("client_ca")) {
                    self.report.wrong(&path.key(name), why);
                }
            }
            return None;
        };
        let authorities = self.authorities(&path.key("client_ca"), ca, readable);
        let trust_domains = self.trust_domains(&path.key("trust_domains"), raw, &authorities);
        let lists = raw.client_crl.as_ref().map_or(&[][..], |lists| &lists.0);
        let crls: Vec<PathBuf> = lists.iter().map(|list| self.files.path(&list.0.0)).collect();
        for (index, file) in crls.iter().enumerate() {
            let path = super::listen::crl_path(path, &crls, index);
            *readable &= self.readable(&path, file).is_some();
        }
        let required = raw.client_auth.as_ref().is_some_and(|mode| mode.0 == ClientAuth::Require);
        Some(ClientSettings { authorities, trust_domains, crls, required })
    }

    fn authorities(
        &mut self,
        path: &KeyPath,
        raw: &ClientCa,
        readable: &mut bool,
    ) -> Vec<AuthoritySettings> {
        let files: Vec<(&str, KeyPath, PathBuf)> = match raw {
            ClientCa::File(file) => vec![("", path.clone(), self.files.path(&file.0))],
            ClientCa::Named(files) => {
                let each = files.iter();
                each.map(|(name, file)| (&**name, path.key(name), self.files.path(&file.0.0)))
                    .collect()
            }
        };
        if files.is_empty() {
            self.report.wrong(path, "is an empty table: no certificate would be trusted");
        }
        let mut authorities = Vec::with_capacity(files.len());
        for (name, path, file) in files {
            if !name.is_empty() {
                self.check_name(&path, name);
            }
            *readable &= self.readable(&path, &file).is_some();
            authorities.push(AuthoritySettings { name: name.into(), file });
        }
        authorities
    }

    /// The only authority whose word counts for the SPIFFE ids of a trust domain.
    fn trust_domains(
        &mut self,
        path: &KeyPath,
        raw: &raw::Tls,
        authorities: &[AuthoritySettings],
    ) -> Vec<(Box<str>, Authority)> {
        let mut domains = Vec::new();
        for (domain, Written(name)) in &raw.trust_domains {
            let path = path.key(domain);
            if Name::spiffe(&format!("spiffe://{domain}/a")).is_err() {
                self.report.wrong(&path, "is no trust domain, such as \"example.org\"");
            }
            if self.is_authority(&path, name, authorities.iter().map(|one| &*one.name)) {
                domains.push((domain.as_str().into(), Arc::from(name.as_str())));
            }
        }
        domains
    }

    fn is_authority<'a>(
        &mut self,
        path: &KeyPath,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> bool {
        let known: Vec<&str> = known.filter(|one| !one.is_empty()).collect();
        if known.contains(&name) {
            return true;
        }
        if known.is_empty() {
            let why = "names an authority, and listen.tls.client_ca gives none a name: write \
                       client_ca = { ours = \"path\" }";
            self.report.wrong(path, why);
        } else {
            let near = crate::api::nearest(name, known.iter().copied());
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let why = format!("names an authority that listen.tls.client_ca does not have{near}");
            self.report.wrong(path, why);
        }
        false
    }

    /// What certificates can say under these settings, and which only secure the transport.
    pub(super) fn certified(
        &mut self,
        raw: Option<&raw::Tls>,
        settings: Option<&ClientSettings>,
    ) -> (Certified, Transport) {
        let path = KeyPath::of(&["listen", "tls", "transport_certificates"]);
        let transport = match raw.and_then(|tls| tls.transport_certificates.as_ref()) {
            None => Transport::default(),
            Some(TransportCertificates::All) => Transport::All,
            Some(TransportCertificates::Names(names)) => {
                let names = names.iter().enumerate().filter_map(|(index, raw)| {
                    let CertificateName { spiffe, dns, subject } = raw;
                    self.certificate_name(&path.index(index), (spiffe, dns, subject))
                });
                Transport::Names(names.collect())
            }
        };
        let Some(settings) = settings else { return (Certified::default(), transport) };
        let authorities = settings.authorities.iter();
        let names = authorities.map(|one| one.name.to_string()).filter(|name| !name.is_empty());
        let names: BTreeSet<String> = names.collect();
        let several = match settings.authorities.as_slice() {
            [one] if names.is_empty() => self.roots(one) > 1,
            _ => names.len() > 1,
        };
        let domains = settings.trust_domains.iter();
        let domains = domains.map(|(domain, name)| (domain.to_string(), name.to_string()));
        let certified = Certified {
            names,
            several,
            trust_domains: domains.collect(),
            identify: transport != Transport::All,
            asked: true,
            transport: match &transport {
                Transport::Names(names) => names.clone(),
                Transport::All => HashSet::new(),
            },
        };
        (certified, transport)
    }

    /// How many different certificates of authorities are in a file.
    fn roots(&mut self, authority: &AuthoritySettings) -> usize {
        let Ok(bytes) = self.files.read(&authority.file) else { return 0 };
        let Ok(pem) = text::pem(&bytes) else { return 0 };
        let roots = CertificateDer::pem_slice_iter(&pem);
        roots.filter_map(Result::ok).map(|der| der.to_vec()).collect::<HashSet<_>>().len()
    }

    /// The one name of an entry.
    fn certificate_name(&mut self, path: &KeyPath, kinds: Kinds<'_>) -> Option<Name> {
        let (spiffe, dns, subject) = kinds;
        let spiffe = spiffe.as_ref().map(|name| &name.0.0);
        let dns = dns.as_ref().map(|name| &name.0.0);
        let subject = subject.as_ref().map(|name| &name.0.0);
        match (spiffe, dns, subject) {
            (Some(name), None, None) | (None, Some(name), None) | (None, None, Some(name)) => {
                Some(name.clone())
            }
            (None, None, None) => {
                let broken = ["spiffe", "dns", "subject"];
                if !broken.iter().any(|key| self.report.was_removed(&path.key(key))) {
                    self.report.wrong(path, "must have one of spiffe, dns and subject");
                }
                None
            }
            _ => {
                let why = "must have one of spiffe, dns and subject: a certificate needs only one \
                           of the names in this list";
                self.report.wrong(path, why);
                None
            }
        }
    }

    /// The names by which a caller's certificates are known. `seen` are those of others.
    pub(super) fn caller_names(
        &mut self,
        path: &KeyPath,
        raw: &[CallerCertificate],
        certified: &Certified,
        seen: &mut BTreeMap<Name, Vec<(Option<Authority>, KeyPath)>>,
    ) -> Vec<CertificateSettings> {
        let mut names = Vec::with_capacity(raw.len());
        for (index, raw) in raw.iter().enumerate() {
            let path = path.index(index);
            let CallerCertificate { spiffe, dns, subject, authority } = raw;
            let Some(name) = self.certificate_name(&path, (spiffe, dns, subject)) else { continue };
            let authority = authority.as_ref().map(|name| &name.0);
            if let Some(authority) = authority {
                let known = certified.names.iter().map(String::as_str);
                self.is_authority(&path.key("authority"), authority, known);
            }
            self.check_authority(&path, &name, authority, certified);
            let authority: Option<Authority> = authority.map(|name| Arc::from(name.as_str()));
            let others = seen.entry(name.clone()).or_default();
            let same = |(other, _): &&(Option<Authority>, KeyPath)| {
                other.as_ref().zip(authority.as_ref()).is_none_or(|(other, own)| other == own)
            };
            if let Some((_, other)) = others.iter().find(same) {
                let why = format!("is the same name as `{other}`");
                self.report.wrong(&path, why);
            }
            others.push((authority.clone(), path));
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
        if certified.transport.contains(name) {
            let why = "is a name of listen.tls.transport_certificates: a certificate that only \
                       secures the transport identifies no caller";
            self.report.wrong(path, why);
        }
        let mapped = name.trust_domain().and_then(|domain| certified.trust_domains.get(domain));
        match (authority, mapped) {
            (Some(own), Some(mapped)) if own != mapped => {
                let why = "is of a trust domain that listen.tls.trust_domains gives to another \
                           authority: no certificate could show it";
                self.report.wrong(&path.key("authority"), why);
            }
            (None, None) if certified.several => {
                let why = if certified.names.is_empty() {
                    "does not say which authority it is believed from, and listen.tls.client_ca \
                     has several, each of which can issue this name: give them names there, \
                     client_ca = { ours = \"path\", partner = \"path\" }, and write authority = \
                     \"ours\" here"
                } else {
                    "does not say which authority it is believed from, and listen.tls.client_ca \
                     has several, each of which can issue this name: write authority = \"…\" here, \
                     or give its SPIFFE trust domain one in listen.tls.trust_domains"
                };
                self.report.warn(path, why);
            }
            _ => {}
        }
    }

    /// Warns where certificates are listed and none is ever looked at.
    pub(super) fn check_seen(&mut self, path: &KeyPath, certified: &Certified) {
        let why = if !certified.asked {
            "can never be seen: no client is asked for a certificate without listen.tls.client_ca"
        } else if !certified.identify {
            "can never count: listen.tls.transport_certificates = \"all\" says that certificates \
             only secure the transport"
        } else {
            return;
        };
        self.report.warn(path, why);
    }
}
