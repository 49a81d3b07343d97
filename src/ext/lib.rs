//! The boundary: the list of everything that Python sees. Each item lives in the file of its stage.

mod app;
mod consumers;
mod coroutine;
mod counters;
mod entries;
mod errors;
mod events;
mod exchange;
mod families;
mod inline;
mod key_base;
mod ledger;
mod memory;
mod period;
mod prices;
mod protocol;
mod publisher;
mod records;
mod tables;
mod tokens;
mod yaml;

use pyo3::prelude::*;

/// Only for this library: many values are freed on another thread than they were made on, and the system's allocator is slow
/// there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of aigw.
#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    errors::add(m)?;
    m.add_class::<app::Gateway>()?;
    m.add_class::<app::GatewayBehindTls>()?;
    m.add_class::<entries::Entries>()?;
    m.add_class::<events::EventRows>()?;
    m.add_class::<exchange::Exchange>()?;
    m.add_class::<consumers::FileConsumers>()?;
    m.add_class::<consumers::FileConsumerRows>()?;
    m.add_class::<period::Period>()?;
    m.add_class::<prices::PriceList>()?;
    m.add_class::<publisher::Publisher>()?;
    m.add_class::<key_base::KeyBase>()?;
    m.add_class::<inline::InlineSubmit>()?;
    m.add_class::<counters::Counters>()?;
    m.add_class::<ledger::Ledger>()?;
    m.add_class::<yaml::YamlDocument>()?;
    m.add_function(wrap_pyfunction!(memory::give_back_memory, m)?)?;
    m.add_function(wrap_pyfunction!(yaml::load_yaml, m)?)?;
    m.add_function(wrap_pyfunction!(yaml::load_yaml_without, m)?)?;
    m.add_function(wrap_pyfunction!(publisher::check_string, m)?)?;
    m.add_function(wrap_pyfunction!(publisher::private_key_kind, m)?)?;
    m.add_function(wrap_pyfunction!(publisher::unusable_certificate, m)?)?;
    m.add_function(wrap_pyfunction!(publisher::unusable_authorities, m)?)?;
    m.add_function(wrap_pyfunction!(publisher::forbidden_address, m)?)?;
    m.add_function(wrap_pyfunction!(tables::access_log_fields, m)?)?;
    m.add_function(wrap_pyfunction!(tables::denials, m)?)?;
    m.add_function(wrap_pyfunction!(tables::limit_kinds, m)?)?;
    m.add_function(wrap_pyfunction!(tables::metrics_table, m)?)?;
    m.add_function(wrap_pyfunction!(tables::wrong_limit, m)?)?;
    m.add_function(wrap_pyfunction!(tables::service_tiers, m)?)?;
    m.add_function(wrap_pyfunction!(tokens::count_tokens, m)?)?;
    m.add_function(wrap_pyfunction!(tokens::check_tokenizer, m)?)?;
    Ok(())
}
