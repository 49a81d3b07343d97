//! The events of the upstream thread that an operator should hear of. The worker makes log lines and shared words of them.

use std::net::SocketAddr;

use aigw_core::balance::{ConnectFault, Origin};

/// One event. `upstream` is the address of the configuration, `host:port`; no text holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// No address of the upstream can be connected to, three times in a row.
    Down {
        /// The upstream.
        upstream: String,
        /// The last fault.
        fault: ConnectFault,
        /// The words of that fault.
        error: String,
    },
    /// A connection to an upstream that was down is there.
    Up {
        /// The upstream.
        upstream: String,
    },
    /// An upstream that is down left the configuration.
    Forgotten {
        /// The upstream.
        upstream: String,
    },
    /// One of several addresses of an upstream cannot be connected to, three times in a row.
    AddressDown {
        /// The upstream.
        upstream: String,
        /// The address.
        address: SocketAddr,
        /// The last fault.
        fault: ConnectFault,
        /// The words of that fault.
        error: String,
    },
    /// That address can be connected to again.
    AddressUp {
        /// The upstream.
        upstream: String,
        /// The address.
        address: SocketAddr,
    },
    /// A connect that failed for a reason that only the error's words explain: TLS, a proxy.
    Failed {
        /// The upstream.
        upstream: String,
        /// The address.
        address: SocketAddr,
        /// The fault.
        fault: ConnectFault,
        /// Its words.
        error: String,
    },
    /// The upstream's name cannot be resolved any more; its last addresses stay in use.
    NameLost {
        /// The upstream.
        upstream: String,
        /// The resolver's words.
        error: String,
    },
    /// The upstream's name has addresses that no upstream may have. They are left out.
    Barred {
        /// The upstream.
        upstream: String,
        /// These addresses, each with its reason.
        addresses: String,
    },
    /// A file or folder of trusted certificates cannot be read.
    Roots {
        /// The words of the fault, with the path.
        error: String,
    },
}

/// A line of the process log: the event, then names and texts of its facts.
pub type LogLine = (&'static str, Vec<(&'static str, String)>);

impl Notice {
    /// The line; `None` for a notice that only changes shared words.
    pub fn line(self) -> Option<LogLine> {
        Some(match self {
            Self::Down { upstream, fault, error } => {
                ("upstream_down", vec![("upstream", upstream), ("reason", fault.name().into()), ("error", error)])
            }
            Self::Up { upstream } => ("upstream_up", vec![("upstream", upstream)]),
            Self::Forgotten { .. } => return None,
            Self::AddressDown { upstream, address, fault, error } => (
                "upstream_address_down",
                vec![
                    ("upstream", upstream),
                    ("address", address.to_string()),
                    ("reason", fault.name().into()),
                    ("error", error),
                ],
            ),
            Self::AddressUp { upstream, address } => {
                ("upstream_address_up", vec![("upstream", upstream), ("address", address.to_string())])
            }
            Self::Failed { upstream, address, fault, error } => (
                "upstream_connect_failed",
                vec![
                    ("upstream", upstream),
                    ("address", address.to_string()),
                    ("reason", fault.name().into()),
                    ("error", error),
                ],
            ),
            Self::NameLost { upstream, error } => {
                ("upstream_name_lost", vec![("upstream", upstream), ("error", error)])
            }
            Self::Barred { upstream, addresses } => {
                let repair = "AIGW_UPSTREAM_ALLOW lists networks that upstreams may have nevertheless";
                (
                    "upstream_address_forbidden",
                    vec![("upstream", upstream), ("addresses", addresses), ("repair", repair.into())],
                )
            }
            Self::Roots { error } => ("upstream_trust", vec![("error", error)]),
        })
    }
}

/// The address of an origin as the configuration and the metrics show it.
pub(super) fn label(origin: &Origin) -> String {
    if origin.host.contains(':') {
        format!("[{}]:{}", origin.host, origin.port)
    } else {
        format!("{}:{}", origin.host, origin.port)
    }
}
