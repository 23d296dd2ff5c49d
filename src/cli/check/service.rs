//! The one read of the whiteboard service that `check --online` signs, and what its answer means.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::api::{Region, Role};
use crate::field::REGION;
use crate::net::{self, Client};
use crate::token::Sent;
use crate::upstream;

/// What is read: of all operations the one that needs no room, and changes nothing.
pub(super) const QUESTION: &str = "GET /v5/rooms?limit=1";
const TARGET: &str = "/v5/rooms?limit=1";

/// The least role that it takes.
pub(super) const ROLE: Role = Role::Writer;

/// The longest answer, and how much of a message is shown.
const LONGEST: usize = 64 * 1024;
const SHOWN: usize = 200;

/// What the service says to a token that it does not take.
const SIGNATURE: &str = "the access key and the secret key do not belong together, or the project is \
                         not of this region or switched off in the console";

/// Reads once, as a project.
pub(super) struct ServiceReader {
    client: Result<Client, String>,
    settings: upstream::Settings,
    token: HeaderValue,
    region: Region,
}

impl ServiceReader {
    pub(super) fn new(settings: &upstream::Settings, token: HeaderValue, region: &Region) -> Self {
        let client = if settings.origin.tls {
            Client::over_tls(settings.ca.as_deref(), "upstream.ca").map_err(|why| why.to_string())
        } else {
            Ok(Client::in_the_clear())
        };
        let client = client.map(|client| {
            client.through(settings.egress.clone()).to_socket(settings.socket.clone())
        });
        Self { client, settings: settings.clone(), token, region: region.clone() }
    }

    pub(super) async fn read(self) -> Result<String, String> {
        let Self { client, settings, token, region } = self;
        let request = Request::get(TARGET)
            .header(HOST, &settings.origin.authority)
            .header("token", token.clone())
            .header(REGION, region.as_str())
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .header(USER_AGENT, net::USER_AGENT)
            .body(Full::<Bytes>::default());
        let request = request.map_err(|why| why.to_string())?;
        let answered = async {
            let mut connection =
                client?.connect(&settings.origin).await.map_err(|why| why.to_string())?;
            let answer = connection.send(request).await.map_err(|why| why.to_string())?;
            let status = answer.status();
            let body = net::read(answer.into_body(), LONGEST).await;
            body.map(|body| (status, body)).map_err(|why| why.to_string())
        };
        let (status, body) = answered.await?;
        judged(status, &body, &Sent::new(Some(&token)))
    }
}

/// What an answer says about the configuration.
fn judged(status: StatusCode, body: &[u8], sent: &Sent<'_>) -> Result<String, String> {
    if status.is_success() {
        return match serde_json::from_slice(body) {
            Ok(Value::Array(_)) => Ok(format!("{} and a list, as it should be", status.as_u16())),
            _ => Err(format!(
                "{status}, and no list of rooms came: is the whiteboard service at `upstream.url`?"
            )),
        };
    }
    let message = upstream::message_in(body, sent);
    let message = message.map_or_else(|| "and no message".to_owned(), |text| shown(&text));
    let cure = match status.as_u16() {
        401 => format!(": {SIGNATURE}"),
        403 if message.contains("token") => format!(": {SIGNATURE}"),
        300..=399 => ": is `upstream.url` that of the service itself?".to_owned(),
        _ => String::new(),
    };
    Err(format!("{}, {message}{cure}", status.as_u16()))
}

/// The words of the service, as far as a line needs them.
fn shown(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    format!("\"{plain}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Access, TABLE};

    #[test]
    fn the_role_is_the_least_that_the_table_says() {
        let list = TABLE.iter().find(|row| row.name == "rooms.list").unwrap();
        assert_eq!(list.access, Access::Needs(crate::api::TokenKind::Sdk, ROLE));
        assert_eq!(TARGET.split('?').next().unwrap(), list.path);
        assert!(QUESTION.ends_with(TARGET));
    }

    #[test]
    fn an_answer_says_what_is_wrong_with_the_configuration_and_shows_no_token() {
        for (status, body, good, said) in [
            (200, "[]", true, "200"),
            (200, "<html>", false, "upstream.url"),
            (200, "{\"a\":1}", false, "no list"),
            (401, "{\"message\":\"invalid signature of token\"}", false, "do not belong together"),
            (403, "{\"message\":\"invalid format of token\"}", false, "do not belong together"),
            (403, "{\"message\":\"service not enable\"}", false, "service not enable"),
            (302, "", false, "the service itself"),
            (500, "", false, "no message"),
            (400, "{\"message\":\"NETLESSSDK_abc is odd\"}", false, "NETLESSSDK_… is odd"),
            (403, "{\"error\":{\"title\":\"service not enable\"}}", false, "service not enable"),
        ] {
            let answer =
                judged(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &Sent::default());
            assert_eq!(answer.is_ok(), good, "{status} {body}");
            let (Ok(answer) | Err(answer)) = answer;
            assert!(answer.contains(said), "{status} {body}: {answer}");
        }
    }
}
