//! Of the fields of a request, those that are looked at before it is known who asks.

use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, ORIGIN};

use super::client::X_FORWARDED_FOR;
use super::request_id::X_REQUEST_ID;

/// What browsers add besides `Origin`, and scripts on servers do not. `Sec-Fetch-Mode` would be no
/// sign of one: Node's `fetch` sends it as well.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The fields, found in one pass over all of them: that takes less than to look for each. Of two of
/// a name, the first counts.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) accept: Option<&'a HeaderValue>,
    pub(super) origin: Option<&'a HeaderValue>,
    pub(super) forwarded_for: Option<&'a HeaderValue>,
    pub(super) request_id: Option<&'a HeaderValue>,
    /// A browser sends it.
    pub(super) from_browser: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            let field = match *name {
                ACCEPT => &mut fields.accept,
                ORIGIN => {
                    fields.from_browser = true;
                    &mut fields.origin
                }
                _ if *name == X_FORWARDED_FOR => &mut fields.forwarded_for,
                _ if *name == X_REQUEST_ID => &mut fields.request_id,
                _ => {
                    fields.from_browser |= *name == SEC_FETCH_SITE;
                    continue;
                }
            };
            field.get_or_insert(value);
        }
        fields
    }
}
