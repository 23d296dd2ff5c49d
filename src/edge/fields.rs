//! Of the fields of a request, those that are looked at before it is known who asks.

use http::header::{ACCEPT, HeaderMap, HeaderValue, ORIGIN};

use crate::field::{SEC_FETCH_SITE, X_FORWARDED_FOR, X_REQUEST_ID, joined};

/// The fields, found in one pass over all of them: that takes less than to look for each. Of two of
/// a name, the first counts; but `Accept`, which is a list.
#[derive(Default)]
pub(crate) struct HeadFields<'a> {
    /// All lines of it.
    pub(crate) accept: Option<HeaderValue>,
    pub(crate) origin: Option<&'a HeaderValue>,
    pub(crate) forwarded_for: Option<&'a HeaderValue>,
    pub(crate) request_id: Option<&'a HeaderValue>,
    /// A browser sends it.
    pub(crate) from_browser: bool,
}

impl<'a> HeadFields<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            let field = match *name {
                ACCEPT => {
                    let before = fields.accept.take();
                    let all = before.map_or_else(|| Some(value.clone()), |one| joined(&one, value));
                    fields.accept = all;
                    continue;
                }
                ORIGIN => {
                    fields.from_browser = true;
                    &mut fields.origin
                }
                _ if *name == X_FORWARDED_FOR => &mut fields.forwarded_for,
                _ if *name == X_REQUEST_ID => &mut fields.request_id,
                _ => {
                    // `Sec-Fetch-Mode` would be no sign of a browser: Node's `fetch` sends it too.
                    fields.from_browser |= *name == SEC_FETCH_SITE;
                    continue;
                }
            };
            field.get_or_insert(value);
        }
        fields
    }
}
