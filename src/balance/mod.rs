//! From a service to the address that will be asked.

pub mod health;
