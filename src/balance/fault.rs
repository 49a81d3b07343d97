//! Why no connection to an upstream came about.
//!
//! In: the way in which a connect failed. Out: its name in logs, metrics and `/status`, and its code in the shared words.

/// The reason of a connect that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum ConnectFault {
    /// The address refused the connection.
    Refused = 1,
    /// No way to the address: no route, or a host that does not answer.
    Unreachable = 2,
    /// The name has no address.
    Unresolved = 3,
    /// No connection within the bound.
    TimedOut = 4,
    /// TLS handshake or certificate.
    Tls = 5,
    /// The proxy of the environment, not the upstream.
    Proxy = 6,
    /// Each address of the name is one that no upstream may have.
    Forbidden = 7,
}

impl ConnectFault {
    /// All faults, in the order of their codes.
    pub const ALL: [Self; 7] =
        [Self::Refused, Self::Unreachable, Self::Unresolved, Self::TimedOut, Self::Tls, Self::Proxy, Self::Forbidden];

    /// The name in logs, metrics and `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Unresolved => "unresolved",
            Self::TimedOut => "timeout",
            Self::Tls => "tls",
            Self::Proxy => "proxy",
            Self::Forbidden => "forbidden",
        }
    }

    /// The fault of a code; `None` for a code that no version has written.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| *fault as u64 == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_comes_back_from_its_code() {
        for fault in ConnectFault::ALL {
            assert_eq!(ConnectFault::from_code(fault as u64), Some(fault));
        }
        assert_eq!(ConnectFault::from_code(0), None);
    }
}
