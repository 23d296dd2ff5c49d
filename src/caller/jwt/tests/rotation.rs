//! A provider that rotates, stumbles, falls and comes late, and what callers see of it: nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};

use super::keys::Signer;
use super::provider::{Mood, Provider};
use super::{claims, now};
use crate::caller::jwt::{Fetcher, InvalidJwtError, IssuerSettings, Issuers, Verified};
use crate::caller::throttle::Throttle;
use crate::caller::{Caller, Credential, CredentialCache};
use crate::failure::Code;
use crate::policy::Rights;

/// A provider, and a gateway's two kinds of threads: this one is the control thread.
struct Case {
    provider: Arc<Provider>,
    issuers: Arc<Issuers>,
    /// Ends with the case.
    control: Fetcher,
}

impl Case {
    async fn new(signers: &[Arc<Signer>]) -> Self {
        let provider = Provider::new(signers);
        provider.listen().await;
        let case = Self::of(&provider, provider.settings(false));
        case.until(|status| status.usable).await;
        case
    }

    fn of(provider: &Arc<Provider>, settings: IssuerSettings) -> Self {
        let issuers = Arc::new(Issuers::new(vec![settings]).unwrap());
        let mut control = Fetcher::default();
        control.follow(&issuers);
        Self { provider: Arc::clone(provider), issuers, control }
    }

    async fn until(&self, holds: impl Fn(&super::super::Status) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.issuers.status().all(|status| holds(&status)) {
            assert!(Instant::now() < deadline, "{:?}", self.issuers.status().next());
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn token(&self, signer: &Signer) -> String {
        signer.token(&claims(&self.provider.issuer(), &json!({})))
    }

    async fn verify(&self, token: &str) -> Result<String, InvalidJwtError> {
        match self.issuers.verify(token, &mut Vec::new(), now()).await {
            Ok(verified) => Ok(verified.claims.text("sub").unwrap().to_owned()),
            Err(refusal) => Err(refusal.reason),
        }
    }
}

fn signer(id: &str) -> Arc<Signer> {
    Arc::new(Signer::es256(id))
}

/// Runs a loop on so many threads of their own until told to stop; each yields what it counted.
fn workers<F>(
    count: usize,
    stop: &Arc<AtomicBool>,
    step: impl Fn(Arc<AtomicBool>) -> F + Clone + Send + 'static,
) -> Vec<std::thread::JoinHandle<F::Output>>
where
    F: Future<Output: Send> + 'static,
{
    let worker = |_| {
        let (stop, step) = (Arc::clone(stop), step.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.unwrap(), step(stop))
        })
    };
    (0..count).map(worker).collect()
}

/// Waits until so many more are counted.
async fn more(counted: &AtomicU32, count: u32) {
    let (begun, enough) = (Instant::now(), counted.load(Ordering::SeqCst) + count);
    while counted.load(Ordering::SeqCst) < enough {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing more is counted");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn no_valid_token_is_refused_while_keys_rotate_and_the_provider_sees_one_fetch() {
    let [old, new] = ["old", "new"].map(signer);
    let case = Case::new(&[Arc::clone(&old)]).await;
    assert_eq!(case.provider.fetches(), 1);
    let signing = Arc::new(std::sync::Mutex::new(Arc::clone(&old)));
    let stop = Arc::new(AtomicBool::new(false));
    let all = Arc::new(AtomicU32::new(0));
    let running = {
        let (issuers, signing) = (Arc::clone(&case.issuers), Arc::clone(&signing));
        let (issuer, all) = (case.provider.issuer(), Arc::clone(&all));
        workers(3, &stop, move |stop| {
            let (issuers, signing) = (Arc::clone(&issuers), Arc::clone(&signing));
            let (issuer, all) = (issuer.clone(), Arc::clone(&all));
            async move {
                let mut verified = 0_u32;
                while !stop.load(Ordering::SeqCst) {
                    let signer = Arc::clone(&signing.lock().unwrap());
                    // Every one another token, so that no cache could help.
                    let token = signer.token(&claims(&issuer, &json!({"jti": verified})));
                    issuers.verify(&token, &mut Vec::new(), now()).await.unwrap();
                    verified += 1;
                    all.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
                verified
            }
        })
    };
    more(&all, 30).await;
    // The provider signs with the new key from the moment on that it is published.
    case.provider.publish(&[Arc::clone(&old), Arc::clone(&new)]);
    *signing.lock().unwrap() = new;
    case.until(|status| status.keys == Some(2)).await;
    more(&all, 30).await;
    stop.store(true, Ordering::SeqCst);
    for worker in running {
        assert!(worker.join().unwrap() > 0);
    }
    assert_eq!(case.provider.fetches(), 2);
    assert_eq!(case.verify(&case.token(&old)).await.as_deref(), Ok("ada"));
}

#[tokio::test]
async fn a_storm_of_forged_key_ids_makes_one_fetch() {
    let good = signer("good");
    let case = Case::new(&[Arc::clone(&good)]).await;
    case.provider.mood(Mood::Slow(Duration::from_millis(50)));
    let mut requests = JoinSet::new();
    for forged in 0..200 {
        let token = case.token(&Signer::es256(&format!("../../{forged}' OR 1=1 --")));
        let issuers = Arc::clone(&case.issuers);
        requests
            .spawn(async move { issuers.verify(&token, &mut Vec::new(), now()).await.map(|_| ()) });
    }
    while let Some(refused) = requests.join_next().await {
        let refused = refused.unwrap().unwrap_err();
        assert!(matches!(refused.reason, InvalidJwtError::UnknownKey(_)), "{refused:?}");
    }
    assert_eq!(case.provider.fetches(), 2);
    assert_eq!(case.verify(&case.token(&good)).await.as_deref(), Ok("ada"));
}

#[tokio::test]
async fn a_provider_that_fails_takes_no_keys_away() {
    let good = signer("good");
    for (mood, told) in [
        (Mood::Down, "TLS"),
        (Mood::Failing, "503"),
        (Mood::Huge, "longer than"),
        (Mood::Html, "not read"),
        (Mood::Elsewhere, "elsewhere"),
    ] {
        let case = Case::new(&[Arc::clone(&good)]).await;
        case.provider.mood(mood);
        let refused = case.verify(&case.token(&signer("unknown"))).await;
        assert_eq!(refused, Err(InvalidJwtError::UnknownKey("unknown".to_owned())));
        let status = case.issuers.status().next().unwrap();
        assert!(status.usable && status.failures == 1, "{status:?}");
        assert!(status.last_error.as_ref().unwrap().contains(told), "{status:?}");
        assert_eq!(case.verify(&case.token(&good)).await.as_deref(), Ok("ada"), "{mood:?}");
        case.provider.mood(Mood::Up);
        case.until(|status| status.last_error.is_none()).await;
    }
}

#[tokio::test]
async fn a_token_that_is_over_anyway_makes_no_fetch() {
    let case = Case::new(&[signer("good")]).await;
    let changes = json!({"iat": now().as_second() - 7200, "exp": now().as_second() - 3600});
    let token = signer("retired").token(&claims(&case.provider.issuer(), &changes));
    let refused = case.issuers.verify(&token, &mut Vec::new(), now()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidToken);
    assert_eq!(case.provider.fetches(), 1);
}

#[tokio::test]
async fn a_slow_provider_holds_up_those_alone_who_need_it_and_them_for_a_second() {
    let [good, new] = ["good", "new"].map(signer);
    let case = Case::new(&[Arc::clone(&good)]).await;
    case.provider.mood(Mood::Slow(Duration::from_millis(1500)));
    case.provider.publish(&[Arc::clone(&good), Arc::clone(&new)]);
    let (token, begun) = (case.token(&new), Instant::now());
    let waiting = async {
        let refused = case.verify(&token).await;
        (refused, begun.elapsed())
    };
    let others = async {
        for _ in 0..20 {
            assert_eq!(case.verify(&case.token(&good)).await.as_deref(), Ok("ada"));
        }
        begun.elapsed()
    };
    let ((refused, waited), passed) = tokio::join!(waiting, others);
    assert_eq!(refused, Err(InvalidJwtError::UnknownKey("new".to_owned())));
    assert!(waited < Duration::from_millis(1400), "{waited:?}");
    assert!(passed < Duration::from_millis(900), "{passed:?}");
    // The fetch that no one waits for any more still brings the key.
    case.until(|status| status.keys == Some(2)).await;
    assert_eq!(case.verify(&token).await.as_deref(), Ok("ada"));
}

#[tokio::test]
async fn a_provider_that_is_down_at_start_is_found_when_it_comes() {
    let good = signer("good");
    let provider = Provider::new(&[Arc::clone(&good)]);
    let case = Case::of(&provider, provider.settings(true));
    let token = case.token(&good);
    let refused = case.issuers.verify(&token, &mut Vec::new(), now()).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason), (Code::AuthUnavailable, InvalidJwtError::NoKeys));
    case.until(|status| status.failures >= 1 && !status.usable).await;
    provider.listen().await;
    case.until(|status| status.usable && status.last_error.is_none()).await;
    assert_eq!(case.verify(&token).await.as_deref(), Ok("ada"));
}

#[tokio::test]
async fn a_redirect_within_the_host_is_followed() {
    let good = signer("good");
    let provider = Provider::new(&[Arc::clone(&good)]);
    provider.mood(Mood::Moved);
    provider.listen().await;
    let case = Case::of(&provider, provider.settings(false));
    case.until(|status| status.usable).await;
    assert_eq!(case.verify(&case.token(&good)).await.as_deref(), Ok("ada"));
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_not_trusted() {
    let provider = Provider::new(&[signer("good")]);
    provider.listen().await;
    let other = Provider::new(&[]);
    let ca = other.settings(false).ca;
    let case = Case::of(&provider, IssuerSettings { ca, ..provider.settings(false) });
    case.until(|status| status.last_error.is_some()).await;
    let status = case.issuers.status().next().unwrap();
    assert!(status.last_error.unwrap().contains("TLS"));
    assert_eq!(provider.fetches(), 0);
}

#[tokio::test]
async fn keys_that_are_too_old_are_not_relied_on() {
    let good = signer("good");
    let provider = Provider::new(&[Arc::clone(&good)]);
    provider.listen().await;
    let settings = IssuerSettings { max_stale: Duration::ZERO, ..provider.settings(false) };
    let case = Case::of(&provider, settings);
    case.until(|status| status.keys == Some(1)).await;
    let refused =
        case.issuers.verify(&case.token(&good), &mut Vec::new(), now()).await.unwrap_err();
    assert_eq!(refused.code(), Code::AuthUnavailable);
    assert!(matches!(refused.reason, InvalidJwtError::StaleKeys(_)));
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_issuers_that_stay() {
    let good = signer("good");
    let case = Case::new(&[Arc::clone(&good)]).await;
    let mut reloaded = Issuers::new(vec![case.provider.settings(false)]).unwrap();
    reloaded.adopt(&case.issuers);
    assert!(reloaded.verify(&case.token(&good), &mut Vec::new(), now()).await.is_ok());
    let mut elsewhere = Issuers::new(vec![case.provider.settings(true)]).unwrap();
    elsewhere.adopt(&case.issuers);
    assert!(!elsewhere.status().next().unwrap().usable);
}

#[tokio::test]
async fn a_fetch_that_is_under_way_outlives_reloads() {
    let provider = Provider::new(&[signer("good")]);
    provider.mood(Mood::Slow(Duration::from_millis(500)));
    provider.listen().await;
    let mut case = Case::of(&provider, provider.settings(false));
    while provider.fetches() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..20 {
        let mut reloaded = Issuers::new(vec![provider.settings(false)]).unwrap();
        reloaded.adopt(&case.issuers);
        case.issuers = Arc::new(reloaded);
        case.control.follow(&case.issuers);
    }
    case.until(|status| status.usable).await;
    assert_eq!((provider.fetches(), case.issuers.status().next().unwrap().fetches), (1, 1));
    // One that comes from elsewhere is fetched anew, and no one goes on for the one before.
    let mut elsewhere = Issuers::new(vec![provider.settings(true)]).unwrap();
    elsewhere.adopt(&case.issuers);
    case.issuers = Arc::new(elsewhere);
    case.control.follow(&case.issuers);
    case.until(|status| status.usable).await;
    assert_eq!(provider.fetches(), 2);
}

#[tokio::test]
async fn a_verdict_is_remembered_for_a_minute_and_not_past_the_key_or_the_token() {
    let [good, new] = ["good", "new"].map(signer);
    let case = Case::new(&[Arc::clone(&good)]).await;
    let token = case.token(&good);
    let start = now();
    let mut decoded = Vec::new();
    let verified = case.issuers.verify(&token, &mut decoded, start).await.unwrap();
    let caller = Arc::new(Caller {
        name: "ada".to_owned(),
        number: 1,
        rights: Rights::of_profile(0),
        credential: Credential::Jwt,
        key_end: None,
    });
    let (memory, throttle) = (CredentialCache::default(), Throttle::new(None, None));
    let keep = |verified: &Verified<'_>| {
        let shown = throttle.fingerprint(&token).unwrap();
        memory.keep(shown, verified.verdict(Arc::clone(&caller)), start);
    };
    let known = |token: &str, seconds| {
        let now = start + jiff::SignedDuration::from_secs(seconds);
        memory.recall(throttle.fingerprint(token).unwrap(), &case.issuers, now).is_some()
    };
    keep(&verified);
    assert!(known(&token, 59));
    assert!(!known(&token, 60));
    assert!(!known("other", 0));
    keep(&Verified { taken_until: start + jiff::SignedDuration::from_secs(10), ..verified });
    assert!(known(&token, 9));
    assert!(!known(&token, 10));
    case.provider.publish(std::slice::from_ref(&new));
    assert_eq!(case.verify(&case.token(&new)).await.as_deref(), Ok("ada"));
    assert!(!known(&token, 0), "the key is gone");
}
