//! The identity provider of a run: it hangs, is slow, fails or refuses connections for a time, and has a
//! new key at some time. The gateway's own task fetches its keys, over connections in memory.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use whiteboard_gateway::net::{ClientDialler, ClientDialling, ClientStream, Origin};

use crate::plan::millis;
use crate::world::{Request, World};

/// How long a token waits for its key, at most.
pub(crate) const KEY_TIMEOUT: Duration = Duration::from_secs(1);

/// The key of somebody else, under an id that the provider does not have.
pub(crate) const FORGED: u8 = 9;

/// How many seconds the tokens are good for, before and after a run begins: whatever clocks are set to.
const AROUND: u64 = 4 * 86_400;

/// What has been sent is there, and taken over, a moment later.
const MOMENT: Duration = Duration::from_millis(10);

/// A key that is new is asked for at once, or when the last such question is so long ago.
const BETWEEN_DEMANDS: Duration = Duration::from_secs(7);

/// After failures the provider is asked later and later; at first soon.
const SOON: Duration = Duration::from_secs(8);

/// When it has its second key, and what befalls it.
#[derive(Clone, Debug)]
pub(crate) struct Issuing {
    rotates: Duration,
    troubles: Vec<Trouble>,
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    from: Duration,
    until: Duration,
    how: How,
}

/// What it does with whoever asks for its keys.
#[derive(Clone, Copy, Debug)]
enum How {
    Refuses,
    Hangs,
    Slow,
    Fails,
    Page,
}

/// What the provider has done.
#[derive(Default)]
pub(crate) struct Issuer {
    /// When it had sent its keys, and how many.
    served: RefCell<Vec<(Instant, u8)>>,
}

impl Issuing {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut at = Duration::ZERO;
        let troubles = (0..rng.u32(..4)).map(|_| {
            let from = at + millis(rng, 0..9_000);
            let until = from + millis(rng, 200..9_000);
            at = until;
            let all = [How::Refuses, How::Hangs, How::Slow, How::Fails, How::Page];
            Trouble { from, until, how: all[rng.usize(..all.len())] }
        });
        let troubles = troubles.collect();
        Self { rotates: millis(rng, 2_000..30_000), troubles }
    }

    /// The number of the key that signs what is asked at a time.
    pub(crate) fn key(&self, at: Duration) -> u8 {
        1 + u8::from(at >= self.rotates)
    }

    fn trouble(&self, at: Duration) -> Option<How> {
        let found = self.troubles.iter().find(|one| (one.from..one.until).contains(&at));
        found.map(|trouble| trouble.how)
    }

    /// The section of the configuration.
    pub(crate) const SECTION: &str = r#"
[issuers.school]
issuer = "https://idp.example"
audience = "whiteboard"
jwks = "http://127.0.0.1:1/keys"
algorithms = ["EdDSA"]
max_lifetime = "240h"
profile = "visitor"
[profiles.visitor]
project = "classroom"
allow = ["rooms.*", "scenes.*", "screenshots.*", "conversions.*", "tokens.room"]
rooms = "any"
role = "admin"
max_lifespan = "24h"
"#;
}

fn pair(number: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[number; 32]).expect("a key of ours")
}

/// A token that this key has signed.
pub(crate) fn token(number: u8) -> String {
    static TOKENS: OnceLock<Vec<String>> = OnceLock::new();
    let all = TOKENS.get_or_init(|| (0..=FORGED).map(made).collect());
    all[usize::from(number)].clone()
}

fn made(number: u8) -> String {
    let text = |json: String| URL_SAFE_NO_PAD.encode(json);
    let (from, until) = (1_800_000_000 - AROUND, 1_800_000_000 + AROUND);
    let signed = format!(
        "{}.{}",
        text(format!(r#"{{"alg":"EdDSA","kid":"key-{number}"}}"#)),
        text(format!(
            r#"{{"iss":"https://idp.example","aud":"whiteboard","sub":"visitor","iat":{from},"exp":{until}}}"#
        ))
    );
    let signature = pair(number).sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

/// So many of its keys, as it shows them (RFC 7517).
fn keys(count: u8) -> String {
    let key = |number: u8| {
        let public = URL_SAFE_NO_PAD.encode(pair(number).public_key().as_ref());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"key-{number}","x":"{public}"}}"#)
    };
    let all: Vec<_> = (1..=count).map(key).collect();
    format!(r#"{{"keys":[{}]}}"#, all.join(","))
}

/// The way from the gateway to it.
struct IssuerWay;

/// The same, for a configuration.
pub(crate) fn way() -> Arc<dyn ClientDialler> {
    Arc::new(IssuerWay)
}

impl ClientDialler for IssuerWay {
    fn dial(&self, _: &Origin) -> ClientDialling {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let Some((world, issuing)) = World::current()
            .and_then(|world| Some((Rc::clone(&world), world.plan.issuer.clone()?)))
        else {
            return Box::pin(async move { Err(refused()) });
        };
        let how = issuing.trouble(world.elapsed());
        if let Some(how) = how {
            world.count(&format!("the identity provider: {how:?}"));
        }
        if matches!(how, Some(How::Refuses)) {
            return Box::pin(async move { Err(refused()) });
        }
        let (near, far) = duplex(64 * 1024);
        spawn_local(serve(world, issuing, how, far));
        Box::pin(async move {
            let stream: Box<dyn ClientStream> = Box::new(near);
            Ok(stream)
        })
    }
}

/// One connection.
async fn serve(world: Rc<World>, issuing: Issuing, how: Option<How>, mut socket: DuplexStream) {
    let (mut rng, mut asked) = (world.fork(), Vec::new());
    while !asked.ends_with(b"\r\n\r\n") {
        if !matches!(socket.read_buf(&mut asked).await, Ok(count) if count > 0) {
            return;
        }
    }
    let wait = match how {
        Some(How::Hangs) => Duration::from_secs(60),
        Some(How::Slow) => millis(&mut rng, 500..4_000),
        _ => millis(&mut rng, 0..80),
    };
    sleep(wait).await;
    let count = issuing.key(world.elapsed());
    let (status, body) = match how {
        Some(How::Fails) => ("503 Busy", String::new()),
        Some(How::Page) => ("200 OK", "<html>sign in</html>".to_owned()),
        _ => ("200 OK", keys(count)),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
    let (first, rest) = body.split_at(length / 2);
    let sent = async {
        socket.write_all(format!("{head}{first}").as_bytes()).await?;
        sleep(wait / 4).await;
        socket.write_all(rest.as_bytes()).await?;
        // Until it is taken: whoever has gone takes nothing.
        socket.read(&mut [0]).await
    };
    // The gateway closes when it has all of it.
    if sent.await.is_ok() && !matches!(how, Some(How::Fails | How::Page)) {
        world.note("issuer", &format!("has shown {count} keys"));
        world.issuer.served.borrow_mut().push((Instant::now(), count));
    }
}

impl Issuer {
    /// Whether the gateway had this key at a time.
    pub(crate) fn is_known(&self, key: u8, at: Instant) -> bool {
        self.served.borrow().iter().any(|(served, count)| *count >= key && *served + MOMENT <= at)
    }
}

/// Why it is the provider's that a caller of its was refused, if it is.
pub(crate) fn excuses(
    world: &World,
    request: &Request,
    entered: Instant,
    settled: Instant,
) -> Result<(), String> {
    let Some(issuing) = &world.plan.issuer else { return Err("it needs no one's keys".to_owned()) };
    let key = request.asked.signed_by;
    if world.issuer.is_known(key, entered) {
        return Err("the gateway had its key".to_owned());
    }
    let at = entered - world.begun();
    let still = |from: Duration| world.stood_still(world.begun() + from, settled);
    let young = at < BETWEEN_DEMANDS + still(Duration::ZERO);
    let new = key > 1 && at <= issuing.rotates + BETWEEN_DEMANDS + still(issuing.rotates);
    let troubled = issuing.troubles.iter().any(|one| {
        let later = SOON.max(2 * (one.until - one.from));
        at + KEY_TIMEOUT >= one.from && at <= one.until + later + still(one.from)
    });
    if young || new || troubled {
        return Ok(());
    }
    Err(format!("the provider has shown key {key} to whoever asked"))
}
