//! What of a request's way hangs on the listener that it came by. A peer knows the listener by its
//! index, so that a step finds these by one look.

use std::sync::Arc;

use crate::caller::{ShownCertificate, Transport};
use crate::edge::{ClientField, TrustedProxies};
use crate::failure;
use crate::server::Peer;

/// What the configuration says of a listener and may say anew while it is served.
#[derive(Clone, Debug)]
pub struct ListenerPolicySettings {
    /// Its name.
    pub name: Arc<str>,
    /// Peers whose `X-Request-Id`, `Forwarded` and `X-Forwarded-For` are taken.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// The field in which they name the client.
    pub client_field: ClientField,
    /// How failures are told.
    pub errors: failure::Settings,
    /// The client certificates that identify no one; all of them where none is asked for.
    pub transport_certificates: Transport,
}

/// The same, ready to be used.
#[derive(Debug)]
pub(super) struct ListenerPolicy {
    settings: ListenerPolicySettings,
    pub(super) trusted_proxies: TrustedProxies,
}

/// Those of all listeners. There is always one.
#[derive(Debug)]
pub(super) struct ListenerPolicies {
    first: ListenerPolicy,
    others: Box<[ListenerPolicy]>,
}

impl ListenerPolicy {
    fn new(settings: ListenerPolicySettings) -> Self {
        let proxies = settings.trusted_proxies.clone();
        Self { trusted_proxies: TrustedProxies::new(proxies, settings.client_field), settings }
    }

    pub(super) const fn errors(&self) -> &failure::Settings {
        &self.settings.errors
    }
}

impl ListenerPolicies {
    /// Of a process that has just begun, or of one whose listeners are those of `before`: they stay
    /// as long as it runs, and one that is not in the configuration any more goes by what it did.
    pub(super) fn new(
        settings: Vec<ListenerPolicySettings>,
        before: Option<&Self>,
    ) -> Option<Self> {
        let now: Vec<ListenerPolicySettings> = match before {
            None => settings,
            Some(before) => {
                let anew = |served: &ListenerPolicy| {
                    let mut named = settings.iter().filter(|one| one.name == served.settings.name);
                    named.next().unwrap_or(&served.settings).clone()
                };
                before.all().map(anew).collect()
            }
        };
        let mut all = now.into_iter().map(ListenerPolicy::new);
        Some(Self { first: all.next()?, others: all.collect() })
    }

    fn all(&self) -> impl Iterator<Item = &ListenerPolicy> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// That of a listener, by its index.
    pub(super) fn of(&self, listener: usize) -> &ListenerPolicy {
        listener.checked_sub(1).and_then(|index| self.others.get(index)).unwrap_or(&self.first)
    }

    /// What the certificate of a connection is worth now, and what it is for.
    pub(super) fn certificate(&self, peer: &Peer, now: jiff::Timestamp) -> ShownCertificate<'_> {
        let transport = &self.of(peer.listener).settings.transport_certificates;
        ShownCertificate { status: peer.standing(now), transport }
    }

    /// The name of a listener, where there are several.
    pub(super) fn name_among_several(&self, listener: usize) -> Option<&str> {
        (!self.others.is_empty()).then(|| &*self.of(listener).settings.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, proxies: &[&str]) -> ListenerPolicySettings {
        ListenerPolicySettings {
            name: name.into(),
            trusted_proxies: proxies.iter().map(|one| one.parse().unwrap()).collect(),
            client_field: ClientField::default(),
            errors: failure::Settings::default(),
            transport_certificates: Transport::default(),
        }
    }

    #[test]
    fn listeners_keep_their_places_whatever_a_later_configuration_names() {
        let served = ListenerPolicies::new(
            vec![settings("listen", &[]), settings("a", &["10.0.0.1/32"]), settings("b", &[])],
            None,
        );
        let later =
            vec![settings("b", &["10.0.0.2/32"]), settings("c", &[]), settings("listen", &[])];
        let now = ListenerPolicies::new(later, served.as_ref()).unwrap();
        let trusts = |listener: usize, proxy: &str| {
            now.of(listener).trusted_proxies.contain(proxy.parse().unwrap())
        };
        assert!(trusts(1, "10.0.0.1"), "what is not named any more stays as it was");
        assert!(trusts(2, "10.0.0.2") && !trusts(0, "10.0.0.2") && !trusts(1, "10.0.0.2"));
        let names: Vec<_> = (0..3).map(|index| now.name_among_several(index)).collect();
        assert_eq!(names, [Some("listen"), Some("a"), Some("b")]);
    }

    #[test]
    fn the_only_listener_needs_no_name() {
        let alone = ListenerPolicies::new(vec![settings("listen", &[])], None).unwrap();
        assert_eq!(alone.name_among_several(0), None);
        assert!(ListenerPolicies::new(Vec::new(), None).is_none());
    }
}
