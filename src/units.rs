//! Units that cross module borders, so that a count is never mistaken for a time.
//!
//! Plain value types: no arithmetic beyond what the unit allows, no clock reads.

use core::fmt;

/// A moment in whole seconds since the Unix epoch (UTC). Holds until the year 2106, as the window word does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u32);

impl UnixSeconds {
    /// The last moment a window may end at. The value above it marks a word that is being moved.
    pub const MAX: Self = Self(u32::MAX - 1);

    /// From a wider count of seconds; later than [`Self::MAX`] is `MAX`.
    pub fn saturating(seconds: u64) -> Self {
        u32::try_from(seconds).map_or(Self::MAX, |s| Self(s.min(Self::MAX.0)))
    }

    /// Whole seconds from `earlier` to `self`; 0 when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment in nanoseconds since the Unix epoch (UTC), the unit of buckets and waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Its whole second, the unit of windows.
    pub fn seconds(self) -> UnixSeconds {
        UnixSeconds::saturating(self.0 / NANOS)
    }

    /// Rounded up to a whole second, for the wait that a client is asked for.
    pub fn seconds_up(self) -> UnixSeconds {
        Self(self.0.saturating_add(NANOS - 1)).seconds()
    }

    /// Nanoseconds from `earlier` to `self`; 0 when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<UnixSeconds> for Moment {
    fn from(at: UnixSeconds) -> Self {
        Self(u64::from(at.0) * NANOS)
    }
}

const NANOS: u64 = 1_000_000_000;

/// The 128 bits of a request's id, as two words. As text: 32 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u64; 2]);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, low] = self.0.map(u64::to_be_bytes);
        let mut digits = [0; 32];
        for (part, bytes) in digits.chunks_exact_mut(16).zip([high, low]) {
            base16ct::lower::encode(&bytes, part).map_err(|_| fmt::Error)?;
        }
        f.write_str(core::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}
