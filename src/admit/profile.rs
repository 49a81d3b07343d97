//! The limits of a rate-limiting instance as checks of one request on Kong's routes.
//!
//! In: the instance that runs, the caller, the head. Out: one check for each of its limits. Source: Kong's `limit_by`; a
//! request without the identifier that it names counts by the client's address.

use std::borrow::Cow;

use super::{Admitter, CallerRows, Check};
use crate::cells::{CellKey, CounterSpace, MAX_COLUMN};
use crate::request::Head;
use crate::snapshot::{LimitBy, Profile, ProfileLimit};

/// The identifier whose requests one counter adds up.
enum Identifier<'a> {
    /// A row of the limit's column.
    Row(u32),
    /// A text, found in the open area.
    Text(Cow<'a, [u8]>),
}

/// Adds the checks of an instance. `caller` is `None` on routes without authentication.
pub fn checks<P: CounterSpace>(
    profile: &Profile,
    caller: Option<CallerRows>,
    head: &Head,
    admitter: &Admitter<P>,
    checks: &mut Vec<Check>,
) {
    let identifier = identifier(&profile.limit_by, caller, head);
    let key = |limit: &ProfileLimit| match (&identifier, limit.dense, limit.open) {
        (Identifier::Row(row), Some(column), _) => CellKey::Dense { column, row: *row },
        (Identifier::Text(text), _, Some(column)) => admitter.open_key(column, text),
        // The policy lacks the column. This counter does not exist, so the request is refused and not let through.
        _ => CellKey::Dense { column: MAX_COLUMN, row: 0 },
    };
    checks.extend(profile.limits.iter().map(|limit| {
        let scope = profile.limit_by.name();
        Check { scope, hidden: profile.hide_client_headers, ..Check::new(limit.limit, key(limit)) }
    }));
}

fn identifier<'a>(by: &LimitBy, caller: Option<CallerRows>, head: &'a Head) -> Identifier<'a> {
    let address = || Identifier::Text(Cow::Owned(head.address().into_bytes()));
    let text = |text: &'a str| Identifier::Text(Cow::Borrowed(text.as_bytes()));
    let row = |row: Option<u32>| row.map_or_else(address, Identifier::Row);
    match by {
        LimitBy::Service => Identifier::Row(0),
        LimitBy::Consumer => row(caller.map(|caller| caller.consumer)),
        LimitBy::Credential => row(caller.map(|caller| caller.credential).filter(|credential| *credential != 0)),
        LimitBy::Ip => address(),
        LimitBy::Header(name) => head.headers.get(name).map_or_else(address, text),
        LimitBy::Path(only) => {
            if head.path == **only {
                text(&head.path)
            } else {
                address()
            }
        }
    }
}
