//! A consumer to be written, and its references to plugin instances of its own.

use crate::snapshot::uuid::Uuid;

/// A consumer to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewConsumer<'a> {
    /// Row number, from 1.
    pub n: u32,
    /// Entity id.
    pub id: Uuid,
    /// Kong's `username`.
    pub username: Option<&'a str>,
    /// Kong's `custom_id`.
    pub custom_id: Option<&'a str>,
    /// Its own plugin instances.
    pub refs: &'a [Ref],
    /// Row number of its tier, 0 for none.
    pub tier: u32,
    /// Names of its groups.
    pub groups: &'a [&'a str],
}

/// The kinds of plugin that a consumer can have of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginKind {
    /// rate-limiting.
    RateLimiting = 0,
    /// request-size-limiting.
    SizeLimiting = 1,
}

/// The bit in the kind of an instance that runs for requests without TLS alone.
pub const ONLY_HTTP: u32 = 1 << 8;
/// The bit in the kind of an instance that runs for requests with TLS alone.
pub const ONLY_HTTPS: u32 = 1 << 9;

/// A plugin instance of the consumer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ref {
    /// Row number of the route it is bound to, or 0.
    pub route: u32,
    /// Row number of the service it is bound to, or 0.
    pub service: u32,
    /// Which list the profile is in ([`PluginKind`]), and [`ONLY_HTTP`] or [`ONLY_HTTPS`] for an instance of one protocol.
    pub kind: u32,
    /// Index of the profile in its kind's list.
    pub profile: u32,
}

impl Ref {
    /// Whether it is of this kind and runs for such a request.
    pub fn is(self, kind: PluginKind, tls: bool) -> bool {
        self.kind & !if tls { ONLY_HTTPS } else { ONLY_HTTP } == kind as u32
    }
}
