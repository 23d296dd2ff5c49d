//! `[operators.NAME]`: who may look at the gateway through the admin listener, and change it.

use std::collections::{BTreeMap, HashMap};

use super::admin::AdminSection;
use super::build::Build;
use super::callers::CallerKey;
use super::certificates::{AskingListener, CallerCertificate, Certified};
use super::file::{KeyPath, section, word_types};
use crate::admin::{
    AccessSettings, AdminListenerSettings, HostName, OperatorRole, OperatorSettings,
};
use crate::caller::{KeyId, Transport};
use crate::server;

section! {
    pub(super) struct OperatorSection {
        /// `"viewer"`: look at everything. `"operator"`: change something as well. See
        /// [operators.md](operators.md).
        role: OperatorRole = "viewer";
        keys: Vec<CallerKey>;
        certificates: Vec<CallerCertificate>;
    }
}

word_types!(OperatorRole);

impl Build<'_> {
    /// Who may ask at the admin listener. `seen` are the ids of all keys so far.
    pub(super) fn operators(
        &mut self,
        sections: BTreeMap<String, OperatorSection>,
        admin: &AdminSection,
        listener: &AdminListenerSettings,
        seen: &mut HashMap<KeyId, KeyPath>,
    ) -> AccessSettings {
        let transport_certificates = self.transport(admin.tls.as_ref());
        let asks = listener.tls.as_ref().is_some_and(|tls| tls.client.is_some());
        let certified = match &admin.tls {
            Some(tls) if asks => {
                let (path, transport) = (tls.path.clone(), transport_certificates.clone());
                let asking = [AskingListener { path, index: 0, transport }];
                let tls = listener.tls.clone();
                let plain = server::ListenerSettings::plain("admin", Vec::new());
                self.certified(&[server::ListenerSettings { tls, ..plain }], &asking)
            }
            _ => Certified::default(),
        };
        let mut seen_names = BTreeMap::new();
        let has_operators = !sections.is_empty();
        let operators = sections.into_iter().map(|(name, section)| {
            let path = section.path;
            self.check_name(&path, &name);
            let none = section.keys.is_empty() && section.certificates.is_empty();
            let broken = self.any_removed(&path, &["keys", "certificates"]);
            let why = "has no key, so nobody is let in by it: `key new --operator NAME` makes one";
            self.warn_if(none && !broken, &path, why);
            let by_certificate = !section.certificates.is_empty();
            let tls_broken = self.was_removed(&KeyPath::of(&["admin", "tls"]));
            let why = "can never be seen: no client of the admin listener is asked for a certificate \
                       without admin.tls.client_ca";
            let unseen = by_certificate && !asks && !tls_broken;
            self.wrong_if(unseen, &path.key("certificates"), why);
            let keys = self.keys(&path.key("keys"), section.keys, seen);
            let certificates =
                self.caller_names(&section.certificates, &certified, &mut seen_names);
            OperatorSettings { name, role: section.role, keys, certificates }
        });
        let operators: Vec<_> = operators.collect();
        self.check_exposed(admin, listener, has_operators);
        let transport_certificates = if asks { transport_certificates } else { Transport::All };
        AccessSettings {
            operators,
            hosts: self.hosts(admin),
            transport_certificates,
            insecure: admin.insecure,
        }
    }

    /// Keys of operators must not cross a network in the clear; and without operators, whoever
    /// reaches the listener reads what it shows.
    fn check_exposed(
        &mut self,
        admin: &AdminSection,
        listener: &AdminListenerSettings,
        has_operators: bool,
    ) {
        let path = |key| admin.path.key(key);
        let why = "means nothing without an operator, [operators.NAME]";
        self.warn_if(admin.insecure && !has_operators, &path("insecure"), why);
        let why = "means nothing without an admin listener: admin.address is \"off\"";
        let vain = has_operators && listener.address.is_none();
        self.warn_if(vain, &KeyPath::of(&["operators"]), why);
        let exposed = listener.address.as_ref().is_some_and(|address| !address.is_local());
        let tls = admin.tls.is_some() || self.was_removed(&path("tls"));
        match (exposed, has_operators, tls) {
            (false, ..) | (true, true, true) => {}
            (true, false, _) => {
                let why = "is reachable from other machines, and asks nobody who they are: see that \
                           only your operators' network reaches it, or name operators, \
                           [operators.NAME]";
                self.warn(&path("address"), why);
            }
            (true, true, false) if admin.insecure => {
                let why = "lets the keys of operators cross the network in the clear: whoever is on \
                           the way can use them";
                self.warn(&path("insecure"), why);
            }
            (true, true, false) => {
                let why = "is reachable from other machines and speaks no TLS, so that the keys of \
                           [operators] would cross the network in the clear: give it [admin.tls], \
                           leave it on loopback or a Unix socket, or say insecure = true";
                self.wrong(&path("address"), why);
            }
        }
    }

    fn hosts(&mut self, admin: &AdminSection) -> Option<Vec<HostName>> {
        let hosts = admin.hosts.as_ref()?;
        let why = "is an empty list: under no name would the listener answer";
        self.wrong_if(hosts.is_empty(), &admin.path.key("hosts"), why);
        Some(hosts.clone())
    }
}
