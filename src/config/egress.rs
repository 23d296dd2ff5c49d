//! `[egress]`: by which way connections go out.

use super::build::Build;
use super::file::{KeyPath, Location, Parse, ValueError, section};
use super::secret::SecretSource;
use crate::net::{Egress, Proxy, ProxyException, ProxyUrl, ProxyUrlError, is_loopback};
use crate::token::Secret;
use crate::{gateway, text};

section! {
    pub(super) struct EgressSection {
        /// The HTTP proxy through which the whiteboard service, issuers and the collector are
        /// reached, by CONNECT: `"http://proxy:3128"`. See
        /// [production.md](production.md#out-through-a-proxy).
        proxy: Option<ProxyUrl>;
        /// The user that the proxy asks for.
        username: Option<String> => "that of the URL, else none";
        /// Its password.
        password: Option<SecretSource> => "that of the URL, else none";
        /// What is reached without the proxy: names (and all names below them), IP addresses,
        /// networks such as `"10.0.0.0/8"`, each perhaps with a port, or `"*"` for everything.
        no_proxy: Vec<ProxyException>;
        /// Whether `HTTPS_PROXY` and `NO_PROXY` are read where `egress.proxy` and `egress.no_proxy`
        /// are omitted. `check` warns of a proxy in the environment that is not used.
        from_environment: bool = false;
    }
}

/// The variables of a proxy that is used, in the order in which they count, as in curl.
const PROXY: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
/// What is reached without it.
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// Those of a proxy that is never used: there is one for everything.
const OTHER_PROXY: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

impl Parse for ProxyUrl {
    const ALLOWED: &'static str = "the URL of a proxy such as \"http://proxy:3128\"";
    const PATTERN: &'static str = "^([Hh][Tt][Tt][Pp]://)?([^@/?#]*@)?\
                                   (\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9._~-]+)(:[0-9]{1,5})?/?$";

    fn text(text: &str) -> Result<Self, ValueError> {
        text.parse().map_err(|why: ProxyUrlError| why.to_string().into())
    }
}

impl Parse for ProxyException {
    const ALLOWED: &'static str =
        "a name, a domain, an IP address, a network such as \"10.0.0.0/8\", or \"*\"";
    // The last label of a name is no number.
    const PATTERN: &'static str = "^(\\*|\
        (\\*?\\.)?([A-Za-z0-9_~-]+\\.)*[A-Za-z0-9_~-]*[A-Za-z_~-][A-Za-z0-9_~-]*\\.?(:[0-9]+)?|\
        [0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+(/[0-9]+|:[0-9]+)?|\
        (\\[[0-9A-Fa-f:.]+\\])(:[0-9]+)?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(/[0-9]+)?)$";

    fn text(text: &str) -> Result<Self, ValueError> {
        text.parse().map_err(|_| "found another string".into())
    }
}

impl Build<'_> {
    /// The way out of the process.
    fn egress(&mut self, section: EgressSection) -> Egress {
        let at = |key| section.path.key(key);
        let ours = section.proxy.is_some() || self.was_removed(&at("proxy"));
        let credentials = section.username.is_some() || section.password.is_some();
        for key in ["username", "password", "no_proxy"] {
            let vain = !ours && !section.from_environment && self.is_set(&at(key));
            self.wrong_if(vain, &at(key), "means nothing without egress.proxy");
        }
        let excepted = self.is_set(&at("no_proxy")) || self.was_removed(&at("no_proxy"));
        let proxy = match section.proxy {
            Some(url) => self.proxy(&section.path, &url, section.username, section.password),
            None if ours => None,
            None => {
                let why = "is for egress.proxy: a proxy of the environment has it in its URL";
                let key = if section.username.is_some() { "username" } else { "password" };
                self.wrong_if(credentials && section.from_environment, &at(key), why);
                self.proxy_of_environment(&section.path, section.from_environment)
            }
        };
        let mut exceptions = section.no_proxy;
        if section.from_environment && !excepted {
            exceptions = self.exceptions_of_environment();
        }
        proxy.map_or_else(Egress::default, |proxy| Egress::through(proxy, exceptions))
    }

    fn proxy(
        &mut self,
        section: &KeyPath,
        url: &ProxyUrl,
        username: Option<String>,
        password: Option<SecretSource>,
    ) -> Option<Proxy> {
        let (at, key) = (section.key("proxy"), section.key("password"));
        self.check_host(&at, url.host());
        let own = username.is_some() || password.is_some();
        if let Some((user, in_url)) = url.credentials() {
            let why = "is given twice: in egress.proxy as well";
            self.wrong_if(username.is_some(), &section.key("username"), why);
            self.wrong_if(password.is_some(), &key, why);
            let why = "has a password in it, in the file itself: write username, and password = \
                       { env = \"NAME\" } or { file = \"path\" } in [egress]";
            self.warn_if(!own && !in_url.is_empty() && self.is_in_file(&at), &at, why);
            return url.proxy().with_credentials(user, in_url).ok();
        }
        let password = match password {
            None => Secret::new(String::new()),
            Some(source) => self.secret(&key, source)?,
        };
        let Some(user) = username else {
            let why = "is without egress.username, which a proxy asks for as well";
            self.wrong_if(own, &key, why);
            return Some(url.proxy());
        };
        let proxy = url.proxy().with_credentials(&user, password.expose());
        let why = |_| {
            let why =
                "holds a colon or a control character, which no user of a proxy has (RFC 7617)";
            self.wrong(&section.key("username"), why);
        };
        proxy.map_err(why).ok()
    }

    /// The proxy that the environment names. What is set and not used is warned about, unless
    /// someone has said that it is not wanted.
    fn proxy_of_environment(&mut self, section: &KeyPath, used: bool) -> Option<Proxy> {
        let key = section.key("from_environment");
        let own = self.variable(&PROXY);
        if !used {
            let set = own.or_else(|| self.variable(&OTHER_PROXY)).map(|(name, _)| name);
            let silent = self.embedded || self.is_set(&key);
            if let Some(name) = set.filter(|_| !silent) {
                let why = format_args!(
                    "is not set, so the proxy that {name} in the environment names is not used: set \
                     it to true to go out through that proxy (of HTTPS_PROXY), or to false to say \
                     that it is not wanted"
                );
                self.warn(&key, why);
            }
            return None;
        }
        let Some((name, value)) = own else {
            let other = self.variable(&OTHER_PROXY).map(|(name, _)| name);
            let why = match other {
                Some(name) => format!("finds {name}, which is not used: HTTPS_PROXY is"),
                None => "finds no HTTPS_PROXY, so connections go out straight".to_owned(),
            };
            self.warn(&key, why);
            return None;
        };
        self.files.hash(value.as_bytes());
        let read = value.parse::<ProxyUrl>().map_err(|why| why.to_string()).and_then(|url| {
            let (user, password) = url.credentials().unwrap_or_default();
            match url.credentials() {
                None => Ok(url.proxy()),
                Some(_) => {
                    url.proxy().with_credentials(user, password).map_err(|why| why.to_string())
                }
            }
        });
        let wrong = |why| {
            let message = format!("must be {}: {why}", ProxyUrl::ALLOWED);
            self.report.wrong_at(Location::Variable(name.to_owned()), message, None);
        };
        read.map_err(wrong).ok()
    }

    /// What the environment excepts. The list is one of everyone's, so what we do not know in it is
    /// warned about, and the rest holds.
    fn exceptions_of_environment(&mut self) -> Vec<ProxyException> {
        let Some((name, value)) = self.variable(&NO_PROXY) else { return Vec::new() };
        self.files.hash(value.as_bytes());
        let each = value.split([',', ' ', '\t']).filter(|one| !one.is_empty());
        let read: Vec<Result<ProxyException, _>> = each.map(str::parse).collect();
        if let Some(index) = read.iter().position(Result::is_err) {
            let why = format!(
                "its entry {} is none that is known here, and is not used: an entry is {}",
                index + 1,
                ProxyException::ALLOWED
            );
            self.report.warn_at(Location::Variable(name.to_owned()), why);
        }
        read.into_iter().flatten().collect()
    }

    /// The first of these variables that is set to something.
    fn variable(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        names.iter().find_map(|name| {
            let (_, value) = self.environment.iter().find(|(set, _)| set == name)?;
            let value = text::value(value).ok().filter(|value| !value.is_empty())?;
            Some((*name, value.to_owned()))
        })
    }

    /// Sends everything out by one way, but for the store. Warns of what is on this machine and would
    /// be looked for on the proxy's.
    pub(super) fn go_out(&mut self, section: EgressSection, settings: &mut gateway::Settings) {
        let egress = self.egress(section);
        let otlp = settings.otlp.as_ref();
        let otlp = otlp.map(|otlp| (["otlp", "endpoint"], otlp.endpoint.origin()));
        for (path, origin) in
            [(["upstream", "url"], &settings.upstream.origin)].into_iter().chain(otlp)
        {
            let proxy = egress.proxy_of(&origin.host, origin.port);
            let socket = path[0] == "upstream" && settings.upstream.socket.is_some();
            let astray = !socket
                && is_loopback(&origin.host)
                && proxy.is_some_and(|proxy| !is_loopback(&proxy.host));
            let why = "is on this machine, and the proxy would look for it on its own: name it in \
                       egress.no_proxy";
            self.warn_if(astray, &KeyPath::of(&path), why);
        }
        for issuer in &mut settings.issuers {
            issuer.egress = egress.clone();
        }
        if let Some(otlp) = &mut settings.otlp {
            otlp.egress = egress.clone();
        }
        settings.upstream.egress = egress;
    }
}
