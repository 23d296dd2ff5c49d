//! `[listen.tls]` and those of other listeners: the gateway's own certificate, and those of clients and their authorities.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::build::Build;
use super::certificates::CertificateName;
use super::file::{
    FromTree, KeyPath, Node, Notation, OneOrMore, Report, any_of, section, word_types,
};
use super::value::FilePath;
use crate::api::nearest;
use crate::caller::Transport;
use crate::certificate::{AuthorityName, Gap, Name, gap, is_root_of};
use crate::net::tls;
use crate::server::{
    self, AuthoritySettings, CertificateFiles, ClientSettings, PemFileError, TlsFileError,
    TlsSettings, certificates,
};
use crate::text;

section! {
    pub(super) struct TlsSection {
        /// The certificate chain, a PEM file. A listener with a `tls` table speaks only TLS.
        certificate: Option<FilePath> | "the path of a PEM file";
        /// Its private key, a PEM file.
        key: Option<FilePath> | "the path of a PEM file";
        certificates: Vec<NamedCertificate>;
        /// A PEM file of the authorities whose client certificates are trusted, or a file for each
        /// of them by a name: `{ ours = "ours.pem", partner = "partner.pem" }`. Without it no
        /// client is asked for one. See [mtls.md](mtls.md).
        client_ca: Option<ClientCa>;
        /// SPIFFE trust domains, and the authority of `client_ca` that alone may issue their ids:
        /// `{ "example.org" = "ours" }`. See [mtls.md](mtls.md#several-authorities).
        trust_domains: BTreeMap<String, String>;
        transport_certificates: Option<TransportCertificates>;
        /// One PEM file, or a list of them, of the certificates that these authorities have
        /// revoked. The newest list of each authority counts. If there is any list, each authority
        /// needs one, and the certificates of an authority whose list is out of date are refused.
        client_crl: Option<OneOrMore<FilePath>>;
        /// `"request"`: a client without a certificate may use another credential, and one with an
        /// invalid certificate gets a 401 that says why. `"require"`: without a trusted certificate
        /// the handshake fails.
        client_auth: ClientAuthMode = "request";
    }
}

section! {
    pub(super) struct NamedCertificate ("a table such as { certificate = \"a.pem\", key = \"a.key\" }") {
        /// A further certificate chain, a PEM file. Who asks for a DNS name in it (SNI) is shown
        /// this one, and everyone else `certificate`. An exact name comes before a wildcard; no two
        /// certificates have the same name.
        certificate: Option<FilePath> | "the path of a PEM file";
        /// Its private key, a PEM file.
        key: Option<FilePath> | "the path of a PEM file";
    }
}

/// Whether clients must have a certificate.
#[derive(Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientAuthMode {
    /// Whoever has none may use another credential.
    Request,
    /// The handshake of those that have none fails.
    Require,
}

word_types!(ClientAuthMode);

/// The authorities of clients: a file of them, or a file for each by its name.
pub(super) enum ClientCa {
    File(FilePath),
    Named(BTreeMap<String, FilePath>),
}

impl FromTree for ClientCa {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        const ALLOWED: &str =
            "the path of a PEM file, or a table of names and paths such as { ours = \"ours.pem\" }";
        match node.form() {
            Notation::Text(_) => FilePath::read(node, report).map(Self::File),
            Notation::Table(_) => BTreeMap::read(node, report).map(Self::Named),
            other => node.refuse(ALLOWED, other.found(), report),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        any_of([
            <FilePath as FromTree>::schema(generator),
            BTreeMap::<String, FilePath>::schema(generator),
        ])
    }
}

/// Certificates that identify no one: those of proxies, above all.
pub(super) enum TransportCertificates {
    All,
    Names(Vec<CertificateName>),
}

impl FromTree for TransportCertificates {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        const ALLOWED: &str =
            "\"all\", or a list of names such as [{ dns = \"proxy.example.org\" }]";
        match node.form() {
            Notation::Text("all") => Some(Self::All),
            Notation::Text(_) => node.refuse(ALLOWED, "found another string", report),
            Notation::List(_) => Vec::read(node, report).map(Self::Names),
            other => node.refuse(ALLOWED, other.found(), report),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        any_of([json_schema!({ "const": "all" }), Vec::<CertificateName>::schema(generator)])
    }
}

impl Build<'_> {
    /// Reads every file as the server will, so that `check` finds what is wrong.
    pub(super) fn listen_tls(&mut self, section: &TlsSection) -> Option<TlsSettings> {
        let mut readable = true;
        let mut files = |build: &mut Self, path: &KeyPath, pair: [&Option<FilePath>; 2]| {
            let keys = ["certificate", "key"].into_iter().zip(pair);
            let mut files = keys.map(|(key, file)| {
                let file = build.path(file.as_ref()?);
                readable &= build.readable(&path.key(key), &file).is_some();
                Some(file)
            });
            let (certificate, key) = (files.next()?, files.next()?);
            Some(CertificateFiles { certificate: certificate?, key: key? })
        };
        let certificate = files(self, &section.path, [&section.certificate, &section.key]);
        let mut others = Vec::with_capacity(section.certificates.len());
        for NamedCertificate { path, certificate, key } in &section.certificates {
            others.push(files(self, path, [certificate, key])?);
        }
        let client = self.client_auth(section, &mut readable);
        let settings = TlsSettings { certificate: certificate?, others, client };
        if readable {
            for (path, files) in with_paths(&section.path, &settings) {
                self.private(&path.key("key"), &files.key);
            }
            match server::Tls::new(&settings) {
                Ok(tls) => {
                    self.check_lists(&section.path, &settings, &tls);
                    for (path, files) in with_paths(&section.path, &settings) {
                        self.check_chain(&path.key("certificate"), files, &settings);
                    }
                }
                Err(why) => self.unusable(&section.path, &settings, &why),
            }
        }
        Some(settings)
    }

    /// Warns about a chain that a client who has only the root cannot follow.
    fn check_chain(&mut self, path: &KeyPath, files: &CertificateFiles, settings: &TlsSettings) {
        let Ok(chain) = certificates(&files.certificate) else { return };
        let Some(Gap { below, issuer, broken }) = gap(&chain) else { return };
        if broken {
            let why = format_args!(
                "names a file whose certificate {} has not issued certificate {below}: clients that \
                 have only the root will refuse it; put the certificate of the issuer there, `{issuer}`",
                below + 1
            );
            return self.warn(path, why);
        }
        let authorities = settings.client.iter().flat_map(|client| &client.authorities);
        let mut roots = authorities.filter_map(|one| certificates(&one.file).ok()).flatten();
        // Who knows the issuer has it as a root: the platform, or these.
        let known = roots.any(|root| is_root_of(&root, &chain)) || tls::is_issuer_known(&chain);
        let why = format_args!(
            "names a file with one certificate, and `{issuer}` has issued it: unless that is a root \
             which every client has, they will refuse it; append the certificate of that issuer \
             (authorities call such a file the full chain)"
        );
        self.warn_if(!known, path, why);
    }

    /// Warns about lists of revoked certificates that are out of date.
    fn check_lists(&mut self, path: &KeyPath, settings: &TlsSettings, tls: &server::Tls) {
        let crls = settings.client.as_ref().map_or(&[][..], |client| &client.crls);
        let old = tls.out_of_date_lists(self.now);
        for index in (0..crls.len()).filter(|index| old.contains(&crls[*index])) {
            let why = "names a file with a list that is out of date, and there is no newer one: no \
                       certificate that it is about is trusted";
            self.warn(&crl_path(path, crls, index), why);
        }
    }

    /// The path of a file is a text of the configuration as any other: it is told by its key.
    fn unusable(&mut self, path: &KeyPath, settings: &TlsSettings, why: &TlsFileError) {
        let key_of = |file: &Path| key_of(path, settings, file);
        let (path, why) = match why {
            TlsFileError::File { path: file, why } => (key_of(file), problem(why, key_of)),
            TlsFileError::Unlisted { authority, index } => {
                let which = match &**authority {
                    "" => format!("certificate {} of {}", index + 1, path.key("client_ca")),
                    name => format!("the authority `{name}` of {}", path.key("client_ca")),
                };
                let why = format!(
                    "has no list of {which}: while others have one, each needs one, for its \
                     certificates could never be trusted"
                );
                (path.key("client_crl"), why)
            }
            TlsFileError::Unusable(why) => (path.clone(), format!("cannot be used: {why}")),
        };
        self.wrong(&path, why);
    }

    fn client_auth(&mut self, section: &TlsSection, readable: &mut bool) -> Option<ClientSettings> {
        let at = |key| section.path.key(key);
        let Some(ca) = &section.client_ca else {
            let vain = [
                ("client_crl", section.client_crl.is_some()),
                ("client_auth", self.is_set(&at("client_auth"))),
                ("trust_domains", !section.trust_domains.is_empty()),
                ("transport_certificates", section.transport_certificates.is_some()),
            ];
            let known = !self.was_removed(&at("client_ca"));
            for (key, written) in vain {
                let why = "means nothing without client_ca, the authorities of clients";
                self.wrong_if(written && known, &at(key), why);
            }
            return None;
        };
        let authorities = self.authorities(&at("client_ca"), ca, readable);
        let trust_domains = self.trust_domains(section, &authorities);
        let lists = section.client_crl.as_ref().map_or(&[][..], |lists| &lists.0);
        let crls: Vec<PathBuf> = lists.iter().map(|list| self.path(list)).collect();
        for (index, file) in crls.iter().enumerate() {
            *readable &= self.readable(&crl_path(&section.path, &crls, index), file).is_some();
        }
        let required = section.client_auth == ClientAuthMode::Require;
        Some(ClientSettings { authorities, trust_domains, crls, required })
    }

    fn authorities(
        &mut self,
        path: &KeyPath,
        ca: &ClientCa,
        readable: &mut bool,
    ) -> Vec<AuthoritySettings> {
        let files: Vec<(&str, &FilePath)> = match ca {
            ClientCa::File(file) => vec![("", file)],
            ClientCa::Named(files) => files.iter().map(|(name, file)| (&**name, file)).collect(),
        };
        let why = "is an empty table: no certificate would be trusted";
        self.wrong_if(files.is_empty(), path, why);
        let mut authorities = Vec::with_capacity(files.len());
        for (name, file) in files {
            let (path, file) = (authority_path(path, name), self.path(file));
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
        section: &TlsSection,
        authorities: &[AuthoritySettings],
    ) -> Vec<(Box<str>, AuthorityName)> {
        let mut domains = Vec::new();
        for (domain, name) in &section.trust_domains {
            let path = section.path.key("trust_domains").key(domain);
            let bad = Name::spiffe(&format!("spiffe://{domain}/a")).is_err();
            self.wrong_if(bad, &path, "is no trust domain, such as \"example.org\"");
            let of = section.path.key("client_ca").to_string();
            if self.is_authority(&path, name, &of, authorities.iter().map(|one| &*one.name)) {
                domains.push((domain.as_str().into(), Arc::from(name.as_str())));
            }
        }
        domains
    }

    /// Whether a name is that of an authority; that it is not is reported.
    pub(super) fn is_authority<'a>(
        &mut self,
        path: &KeyPath,
        name: &str,
        of: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> bool {
        let known: Vec<&str> = known.filter(|one| !one.is_empty()).collect();
        if known.is_empty() {
            let why = format_args!(
                "names an authority, and {of} gives none a name: write client_ca = {{ ours = \
                 \"path\" }}"
            );
            self.wrong(path, why);
        } else if !known.contains(&name) {
            let near = nearest(name, known.iter().copied());
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let why = format!("names an authority that {of} does not have{near}");
            self.wrong(path, why);
        }
        known.contains(&name)
    }

    /// The certificates that only secure the transport.
    pub(super) fn transport(&mut self, section: Option<&TlsSection>) -> Transport {
        match section.and_then(|tls| tls.transport_certificates.as_ref()) {
            None => Transport::default(),
            Some(TransportCertificates::All) => Transport::All,
            Some(TransportCertificates::Names(names)) => {
                let names = names.iter().filter_map(|name| {
                    self.certificate_name(&name.path, (&name.spiffe, &name.dns, &name.subject))
                });
                Transport::Names(names.collect())
            }
        }
    }

    /// How many different certificates of authorities are in a file.
    pub(super) fn roots(&mut self, authority: &AuthoritySettings) -> usize {
        let Ok(bytes) = self.files.read(&authority.file) else { return 0 };
        let Ok(pem) = text::pem(&bytes) else { return 0 };
        let roots = CertificateDer::pem_slice_iter(&pem);
        roots.filter_map(Result::ok).map(|der| der.to_vec()).collect::<HashSet<_>>().len()
    }
}

/// The key that names a file.
fn key_of(path: &KeyPath, settings: &TlsSettings, file: &Path) -> KeyPath {
    let client = settings.client.as_ref();
    let crls = client.map_or(&[][..], |client| &client.crls);
    let authorities = client.map_or(&[][..], |client| &client.authorities);
    let others = || with_paths(path, settings).into_iter().skip(1);
    if file == settings.certificate.key {
        path.key("key")
    } else if let Some((path, files)) =
        others().find(|(_, one)| file == one.key || file == one.certificate)
    {
        path.key(if file == files.key { "key" } else { "certificate" })
    } else if let Some(authority) = authorities.iter().find(|one| file == one.file) {
        authority_path(&path.key("client_ca"), &authority.name)
    } else if let Some(index) = crls.iter().position(|crl| file == crl) {
        crl_path(path, crls, index)
    } else {
        path.key("certificate")
    }
}

/// The certificates with the tables that they are named in.
fn with_paths<'a>(
    path: &KeyPath,
    settings: &'a TlsSettings,
) -> Vec<(KeyPath, &'a CertificateFiles)> {
    let others = settings.others.iter().enumerate();
    let others = others.map(|(index, files)| (path.key("certificates").index(index), files));
    [(path.clone(), &settings.certificate)].into_iter().chain(others).collect()
}

/// What is wrong with the file that a key names.
fn problem(why: &PemFileError, key_of: impl Fn(&Path) -> KeyPath) -> String {
    let fixed = match why {
        PemFileError::Text(why) => return format!("names a file that {why}"),
        PemFileError::Pem(what) => return format!("names a file without a {what} in PEM form"),
        PemFileError::Authority(why) => {
            return format!("names a file with no authority's certificate: {why}");
        }
        PemFileError::List(why) => return format!("names a file with {why}"),
        PemFileError::Order(index) => {
            return format!(
                "names a file with the certificates in the wrong order: the key is that of \
                 certificate {index}, and the gateway's own comes first, then those that have \
                 issued it"
            );
        }
        PemFileError::SameName { other, name } => {
            return format!(
                "names a certificate with the name `{name}`, and so does `{}`: which of them who \
                 asks for it is shown would be chance; leave one of them out",
                key_of(other)
            );
        }
        PemFileError::Read(_) => "names a file that cannot be read",
        PemFileError::Encrypted => {
            "names a file whose private key is encrypted, and nobody is there to type the \
             password: write it in the clear, readable by the gateway alone (`openssl pkey -in \
             old.pem -out new.pem`)"
        }
        PemFileError::Mismatch => {
            "is of another certificate than the first of `certificate`: they do not belong together"
        }
        PemFileError::NoName => {
            "names a certificate without a DNS name, so that nobody could ask for it: leave it out, \
             or make it `certificate`, which everybody else is shown"
        }
    };
    fixed.to_owned()
}

/// The key of a list of revoked certificates.
fn crl_path(path: &KeyPath, crls: &[PathBuf], index: usize) -> KeyPath {
    let path = path.key("client_crl");
    if crls.len() == 1 { path } else { path.index(index) }
}

/// The key of an authority; without a name it is that of all.
fn authority_path(path: &KeyPath, name: &str) -> KeyPath {
    if name.is_empty() { path.clone() } else { path.key(name) }
}
