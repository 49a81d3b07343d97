//! Routes that take TLS only.

use super::canonical;
use crate::refusal::{Reason, Refusal};
use crate::request::Head;

/// The refusal of a request without TLS on a route that takes TLS only: an upgrade for status 426, else a redirect.
pub fn required(redirect_status: u16, head: &Head) -> Refusal {
    let refusal = Refusal::from(Reason::HttpsRequired);
    if redirect_status == Reason::HttpsRequired.status() {
        return refusal.with(vec![("connection", "Upgrade".into()), ("upgrade", "TLS/1.2, HTTP/1.1".into())]);
    }
    let host = head.host().rsplit_once(':').map_or(head.host(), |(host, _)| host);
    let path = canonical::encode(&head.path);
    let query = if head.query.is_empty() { String::new() } else { format!("?{}", head.query) };
    let location = vec![("location", format!("https://{host}{path}{query}").into())];
    Refusal { status: Some(redirect_status), ..refusal.with(location) }
}
