//! The kinds of limit, one file each. A limit is a bound on a meter within a window of time.

pub mod period;
pub mod rate;
pub mod window;

pub use period::{Period, Window};
pub use rate::Rate;
