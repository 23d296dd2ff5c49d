//! Sessions of operators at a browser: a cookie in place of a key, for an hour.
//!
//! A browser sends the cookie on behalf of whatever page makes it ask; so what changes something
//! carries a second secret besides, which only the page that began the session was told. A session is
//! worth what its key is worth at each request: it has no rights of its own.

use std::cell::RefCell;
use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::access::KeyProof;
use crate::caller::Digest;
use crate::token::Secret;

/// How long one lasts.
pub(super) const LIFE: Duration = Duration::from_secs(3600);

/// So many has an operator at most; with one more the oldest ends.
const MOST_OF_ONE: usize = 16;

/// The sessions of this process.
#[derive(Default)]
pub(super) struct Sessions(RefCell<Vec<Session>>);

struct Session {
    /// Of the secret in the cookie, which is kept nowhere.
    digest: Digest,
    operator: String,
    key: KeyProof,
    token: Secret,
    end: Instant,
    ends: Timestamp,
}

/// A session that has just begun.
pub(super) struct BegunSession {
    /// What the cookie holds.
    pub(super) cookie: Secret,
    pub(super) known: KnownSession,
}

/// A session that a request is of.
#[derive(Clone)]
pub(super) struct KnownSession {
    pub(super) key: KeyProof,
    /// What each change carries.
    pub(super) token: Secret,
    pub(super) ends: Timestamp,
}

impl KnownSession {
    /// Whether a request carries the token of this session. Compares in constant time.
    pub(super) fn has_token(&self, shown: &[u8]) -> bool {
        shown.ct_eq(self.token.expose().as_bytes()).into()
    }
}

impl Sessions {
    /// Begins one; `None` where the system gives no randomness.
    pub(super) fn begin(&self, operator: &str, key: KeyProof) -> Option<BegunSession> {
        let (cookie, token) = (secret()?, secret()?);
        let now = Instant::now();
        let known = KnownSession { key, token: token.clone(), ends: Timestamp::now() + LIFE };
        let digest = Digest::of(cookie.expose());
        let (operator, end, ends) = (operator.to_owned(), now + LIFE, known.ends);
        let mut sessions = self.0.borrow_mut();
        sessions.retain(|one| one.end > now);
        // In the order in which they began.
        let own: Vec<usize> =
            (0..sessions.len()).filter(|at| sessions[*at].operator == operator).collect();
        if let Some(oldest) = own.first().filter(|_| own.len() >= MOST_OF_ONE) {
            sessions.remove(*oldest);
        }
        sessions.push(Session { digest, operator, key, token, end, ends });
        Some(BegunSession { cookie, known })
    }

    /// The session of a cookie, if there is one still.
    pub(super) fn find(&self, cookie: &str) -> Option<KnownSession> {
        let (digest, now) = (Digest::of(cookie), Instant::now());
        let sessions = self.0.borrow();
        let session = sessions.iter().find(|one| one.digest.matches(&digest))?;
        let Session { key, token, ends, .. } = session;
        (session.end > now).then(|| KnownSession { key: *key, token: token.clone(), ends: *ends })
    }

    /// Ends that of a cookie.
    pub(super) fn end(&self, cookie: &str) {
        let digest = Digest::of(cookie);
        self.0.borrow_mut().retain(|one| !one.digest.matches(&digest));
    }
}

/// 256 random bits, in hexadecimal.
fn secret() -> Option<Secret> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok()?;
    Some(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::ApiKey;

    fn key() -> KeyProof {
        let text = crate::caller::generate_for_operator().unwrap();
        KeyProof::of(&ApiKey::parse(text.expose()).ok().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_found_by_its_cookie_until_it_is_over() {
        let (sessions, key) = (Sessions::default(), key());
        let begun = sessions.begin("ada", key).unwrap();
        let found = || sessions.find(begun.cookie.expose());
        assert!(
            found().is_some_and(|known| known.has_token(begun.known.token.expose().as_bytes()))
        );
        assert!(!found().unwrap().has_token(b""));
        assert!(sessions.find("").is_none() && sessions.find(begun.known.token.expose()).is_none());
        tokio::time::advance(LIFE - Duration::from_secs(1)).await;
        assert!(found().is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(found().is_none());
        let other = sessions.begin("ada", key).unwrap();
        sessions.end(other.cookie.expose());
        assert!(sessions.find(other.cookie.expose()).is_none());
        assert!(sessions.0.borrow().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_has_a_bounded_number_of_them_and_takes_none_of_others() {
        let (sessions, key) = (Sessions::default(), key());
        let others = sessions.begin("grace", key).unwrap();
        let mine: Vec<_> =
            (0..MOST_OF_ONE + 3).map(|_| sessions.begin("ada", key).unwrap()).collect();
        assert_eq!(sessions.0.borrow().len(), MOST_OF_ONE + 1);
        let lives = |one: &BegunSession| sessions.find(one.cookie.expose()).is_some();
        assert!(lives(&others));
        assert_eq!(mine.iter().map(lives).position(|lives| lives), Some(3), "the oldest ended");
    }
}
