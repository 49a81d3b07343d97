//! A key base while it is read from the store: `_native.KeyBase`.
//!
//! In: records of consumers and credentials, some thousand at a time. Out: the builder that `Publisher.write_base` writes. A million
//! records are 64 bytes each here, and several hundred as Python's tuples: so nobody holds those of more than one part.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aigw_core::snapshot::{Credential, KeysBuilder, Uuid};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};

use crate::errors::snapshot_error;
use crate::records::{ConsumerTuple, digest, uuid, with_consumer};

/// (n, id, consumer's id, hmac, `expires_at`)
type OwnedTuple = (u32, PyBackedStr, PyBackedStr, PyBackedBytes, u64);

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
#[derive(Default)]
pub struct KeyBase(Mutex<Collected>);

#[derive(Default)]
struct Collected {
    /// `None` after it was written.
    builder: Option<KeysBuilder>,
    /// Consumers by id: credentials name their owner so.
    owners: HashMap<Uuid, u32>,
    records: usize,
}

impl KeyBase {
    fn collected(&self) -> MutexGuard<'_, Collected> {
        // A panic leaves a part of a base, whose write fails: each credential needs its consumer.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The builder, once. An empty base has one, too.
    pub(crate) fn take(&self) -> Option<KeysBuilder> {
        let mut collected = self.collected();
        let builder = collected.builder.take().or_else(|| (collected.records == 0).then(KeysBuilder::new));
        collected.owners = HashMap::new();
        builder
    }
}

#[pymethods]
impl KeyBase {
    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn consumers(&self, records: Vec<ConsumerTuple>) -> PyResult<()> {
        let mut collected = self.collected();
        let Collected { builder, owners, records: count } = &mut *collected;
        let builder = builder.get_or_insert_with(KeysBuilder::new);
        for record in &records {
            with_consumer(record, |consumer| {
                owners.insert(consumer.id, consumer.n);
                builder.consumer(&consumer).map_err(snapshot_error)
            })?;
        }
        *count += records.len();
        Ok(())
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn credentials(&self, records: Vec<OwnedTuple>) -> PyResult<()> {
        let mut collected = self.collected();
        let Collected { builder, owners, records: count } = &mut *collected;
        let builder = builder.get_or_insert_with(KeysBuilder::new);
        for (n, id, owner, hmac, expires_at) in &records {
            let Some(&consumer) = owners.get(&uuid("consumer", owner)?) else {
                return Err(PyKeyError::new_err(format!("credential {n}: its consumer is not in the base")));
            };
            let credential = Credential { n: *n, id: uuid("credential", id)?, consumer, expires_at: *expires_at };
            builder.credential(credential, digest(*n, hmac)?);
        }
        *count += records.len();
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.collected().records
    }
}
