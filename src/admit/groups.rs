//! The acl of a route: which consumers may pass, by their groups.

use crate::refusal::Reason;
use crate::snapshot::{Acl, Consumer};

/// Judges a caller; `acl` is `None` on routes that everybody may use.
pub fn judge(acl: Option<&Acl>, consumer: Option<&Consumer<'_>>) -> Result<(), Reason> {
    match (acl, consumer) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Reason::AclUnauthorized),
        (Some(acl), Some(consumer)) if acl.passes(consumer.groups.iter()) => Ok(()),
        (Some(_), Some(_)) => Err(Reason::AclForbidden),
    }
}
