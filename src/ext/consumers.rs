//! Consumers of a configuration file for the control plane: `_native.FileConsumers` and `_native.FileConsumerRows`.
//!
//! In: a parsed file with the values of its references, then ids and HMACs. Out: rows of the store, made on demand. It
//! converts and delegates to `aigw_io::consumers`, which works without the GIL.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aigw_core::snapshot::{Uuid, parse_uuid};
use aigw_io::consumers::compare::Comparison;
use aigw_io::consumers::repeats::{Position, repeats};
use aigw_io::consumers::rows::{Declaration, Row, Rows, Shape};
use aigw_io::consumers::{self, EntityKind, Key};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

/// (field, (index, part), (first index, first part))
type RepeatTuple = (&'static str, Position, Position);
/// (id, body, hmac, `expires_at`, tier's id, line, content hash, reference)
type RowTuple<'py> = (String, String, Bound<'py, PyBytes>, u64, Option<&'py str>, i64, String, Option<&'py str>);
/// (absent, changed, (origin, id) of the moved, ids of the removed)
type DifferenceTuple = (Vec<usize>, Vec<usize>, Vec<(String, String)>, Vec<String>);

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct FileConsumers {
    pub(crate) inner: Arc<consumers::FileConsumers>,
}

#[pymethods]
impl FileConsumers {
    fn count(&self, kind: &str) -> PyResult<usize> {
        Ok(self.inner.positions(entity_kind(kind)?).count())
    }

    #[getter]
    fn invalid(&self) -> Vec<usize> {
        self.inner.invalid.iter().map(|one| one.index).collect()
    }

    #[getter]
    fn usernames(&self) -> Vec<&str> {
        let valid = self.inner.consumers.iter().filter_map(|one| one.username.as_deref());
        valid.chain(self.inner.invalid.iter().filter_map(|one| one.username.as_deref())).collect()
    }

    #[getter]
    fn tiers(&self) -> Vec<&str> {
        self.inner.tiers.iter().map(|name| &**name).collect()
    }

    fn referring_to(&self, tier: usize) -> Vec<(usize, bool)> {
        let all = self.inner.consumers.iter().filter(|one| one.tier == Some(tier));
        all.map(|one| (one.index, one.tier_in_groups)).collect()
    }

    #[getter]
    fn with_plugins(&self) -> Vec<(usize, Option<&str>)> {
        let all = self.inner.consumers.iter().filter(|one| one.has_plugins);
        all.map(|one| (one.index, one.username.as_deref())).collect()
    }

    fn repeats(&self, py: Python<'_>, most: usize) -> Vec<RepeatTuple> {
        let found = py.detach(|| repeats(&self.inner, most));
        found.iter().map(|one| (one.field.name(), one.at, one.first)).collect()
    }

    fn short_keys(&self, below: usize, most: usize) -> Vec<(usize, usize, usize)> {
        let lengths = self.inner.consumers.iter().flat_map(|one| {
            one.credentials.iter().enumerate().filter_map(move |(part, credential)| match &credential.key {
                Key::Text(key) => Some((one.index, part, key.chars().count())),
                Key::Hmac(_) => None,
            })
        });
        lengths.filter(|(_, _, length)| *length < below).take(most).collect()
    }

    fn name(&self, index: usize) -> Option<&str> {
        let at = self.inner.consumers.binary_search_by_key(&index, |one| one.index).ok()?;
        Some(self.inner.consumers[at].name())
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn paths<'py>(&self, py: Python<'py>, kind: &str, lines: HashSet<usize>) -> PyResult<Bound<'py, PyDict>> {
        let (kind, paths) = (entity_kind(kind)?, PyDict::new(py));
        for (line, index, part) in self.inner.positions(kind) {
            if !lines.contains(&line) || paths.contains(line)? {
                continue;
            }
            let path = match kind {
                EntityKind::Consumer => ("consumers", index).into_pyobject(py)?.into_any(),
                _ => ("consumers", index, kind.name(), part).into_pyobject(py)?.into_any(),
            };
            paths.set_item(line, path)?;
        }
        Ok(paths)
    }

    #[pyo3(signature = (start=0, stop=usize::MAX))]
    fn keys<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> Vec<Bound<'py, PyAny>> {
        let consumers = self.inner.consumers.iter().skip(start).take(stop.saturating_sub(start));
        let keys = consumers.flat_map(|one| &one.credentials).map(|credential| match &credential.key {
            Key::Text(key) => PyString::new(py, key).into_any(),
            Key::Hmac(hmac) => PyBytes::new(py, hmac).into_any(),
        });
        keys.collect()
    }

    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &py.detach(|| self.inner.digest()))
    }

    fn __repr__(&self) -> String {
        format!("FileConsumers({})", self.inner.consumers.len())
    }
}

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct FileConsumerRows {
    inner: Rows,
}

#[pymethods]
impl FileConsumerRows {
    #[new]
    #[allow(clippy::needless_pass_by_value, clippy::too_many_arguments)] // the whole of a declaration, extracted from Python
    fn new(
        py: Python<'_>,
        consumers: &FileConsumers,
        file: String,
        now: u64,
        tiers: Vec<String>,
        shapes: (Shape, Shape, Shape),
        keys: &Bound<'_, PyAny>,
        since: Py<PyAny>,
        shift: i64,
    ) -> PyResult<Self> {
        let file_consumers = Arc::clone(&consumers.inner);
        let keys = keys.try_iter()?.map(|one| key_of(&one?)).collect::<PyResult<Vec<_>>>()?;
        if tiers.len() != file_consumers.tiers.len() || keys.len() != consumers.count("keyauth_credentials")? {
            return Err(PyValueError::new_err("each tier needs an id, and each credential an HMAC and a hint"));
        }
        let declaration = Declaration { file, now, tiers, shapes: [shapes.0, shapes.1, shapes.2], shift };
        let since = |ids: Vec<Uuid>| Python::attach(|py| created_at(py, &since, &ids));
        py.detach(|| Rows::new(file_consumers, declaration, keys, since)).map(|inner| Self { inner })
    }

    fn count(&self, kind: &str) -> PyResult<usize> {
        Ok(self.inner.of(entity_kind(kind)?).len())
    }

    fn row<'py>(slf: &'py Bound<'py, Self>, kind: &str, index: usize) -> PyResult<RowTuple<'py>> {
        let (this, kind) = (slf.get(), entity_kind(kind)?);
        let row = this.at(kind, index)?;
        let (line, reference) = this.inner.position(kind, row);
        let digest: &[u8] = if kind == EntityKind::Credential { row.digest() } else { b"" };
        Ok((
            row.id.to_string(),
            this.inner.body(kind, row, None),
            PyBytes::new(slf.py(), digest),
            row.expires_at(),
            if kind == EntityKind::Consumer { this.inner.tier(row) } else { None },
            line,
            row.hash_text(),
            reference,
        ))
    }

    fn records<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        start: usize,
        stop: usize,
        highest: i64,
        known: &Bound<'py, PyDict>,
    ) -> PyResult<(Vec<Bound<'py, PyTuple>>, i64)> {
        let (kind, mut highest) = (entity_kind(kind)?, highest);
        let part = self.inner.of(kind).get(start..stop).ok_or_else(|| PyIndexError::new_err(stop))?;
        let mut records = Vec::with_capacity(part.len());
        for row in part {
            let id = id_text(py, row.id);
            let n = if let Some(n) = known.get_item(&id)? {
                n.extract()?
            } else {
                highest += 1;
                highest
            };
            records.push(self.record(py, kind, row, id, n)?);
        }
        Ok((records, highest))
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn updates<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        found: Vec<(usize, i64, u64)>,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let kind = entity_kind(kind)?;
        let update = |&(index, n, created_at): &(usize, i64, u64)| {
            let row = self.at(kind, index)?;
            let (body, origin) = (self.inner.body(kind, row, Some(created_at)), self.inner.origin(kind, row));
            match kind {
                EntityKind::Consumer => (self.inner.tier(row), body, origin, n).into_pyobject(py),
                EntityKind::Credential => (row.expires_at(), body, origin, n).into_pyobject(py),
                EntityKind::Acl => Err(PyValueError::new_err("an acl has no number")),
            }
        };
        found.iter().map(update).collect()
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn updatable(
        &self,
        kind: &str,
        changed: Vec<usize>,
        stored: Vec<(PyBackedStr, i64, u64, Option<PyBackedStr>)>,
    ) -> PyResult<Vec<(i64, usize, u64)>> {
        let kind = entity_kind(kind)?;
        let untagged = |&index: &usize| Some((self.inner.untagged(kind, self.inner.of(kind).get(index)?)?, index));
        let rows: HashMap<_, _> = changed.iter().filter_map(untagged).collect();
        let found = stored.iter().filter_map(|(id, n, created_at, custom_id)| {
            let index = rows.get(&(parse_uuid(id)?, custom_id.as_deref()))?;
            Some((*n, *index, *created_at))
        });
        Ok(found.collect())
    }

    fn tags(&self, kind: &str, start: usize, stop: usize) -> PyResult<Vec<(&'static str, String, String)>> {
        let kind = entity_kind(kind)?;
        let part = self.inner.of(kind).get(start..stop).ok_or_else(|| PyIndexError::new_err(stop))?;
        let tags = part.iter().flat_map(|row| {
            let tags = self.inner.tags(kind, row).iter();
            tags.map(move |tag| (kind.name(), row.id.to_string(), tag.to_string()))
        });
        Ok(tags.collect())
    }

    fn compare(&self, kind: &str, stored: &Bound<'_, PyAny>) -> PyResult<DifferenceTuple> {
        let kind = entity_kind(kind)?;
        let mut comparison = Comparison::new(&self.inner, kind);
        for pair in stored.try_iter()? {
            let (id, origin): (PyBackedStr, PyBackedStr) = pair?.extract()?;
            if let Some(id) = parse_uuid(&id) {
                comparison.take(id, &origin);
            }
        }
        let found = comparison.finish();
        let rows = self.inner.of(kind);
        let moved = found.moved.iter().map(|&at| (self.inner.origin(kind, &rows[at]), rows[at].id.to_string()));
        let removed = found.removed.iter().map(Uuid::to_string);
        Ok((found.absent, found.changed, moved.collect(), removed.collect()))
    }

    fn name(&self, id: &str) -> Option<&str> {
        self.inner.name(parse_uuid(id)?)
    }

    fn same_digests(&self, py: Python<'_>) -> Vec<(usize, usize)> {
        py.detach(|| self.inner.same_digests())
    }
}

impl FileConsumerRows {
    fn at(&self, kind: EntityKind, index: usize) -> PyResult<&Row> {
        self.inner.of(kind).get(index).ok_or_else(|| PyIndexError::new_err(index))
    }

    /// The record of a row that the store does not hold yet.
    fn record<'py>(
        &self,
        py: Python<'py>,
        kind: EntityKind,
        row: &Row,
        id: Bound<'py, PyString>,
        n: i64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (body, origin) = (self.inner.body(kind, row, None), self.inner.origin(kind, row));
        let owner = || self.inner.owner(row).map(|owner| id_text(py, owner));
        match kind {
            EntityKind::Consumer => {
                let consumer = self.inner.consumer(row);
                let username = consumer.and_then(|one| one.username.as_deref());
                let custom_id = consumer.and_then(|one| one.custom_id.as_deref());
                (n, id, username, custom_id, self.inner.tier(row), body, origin).into_pyobject(py)
            }
            EntityKind::Credential => {
                (n, id, owner(), PyBytes::new(py, row.digest()), row.expires_at(), body, origin).into_pyobject(py)
            }
            EntityKind::Acl => (id, owner(), self.inner.group(row), body, origin).into_pyobject(py),
        }
    }
}

/// The unix seconds when the credentials with these ids were first declared, as Python's callable knows them.
fn created_at(py: Python<'_>, since: &Py<PyAny>, ids: &[Uuid]) -> PyResult<HashMap<Uuid, u64>> {
    let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    let found: HashMap<String, u64> = since.call1(py, (ids,))?.extract(py)?;
    Ok(found.into_iter().filter_map(|(id, at)| Some((parse_uuid(&id)?, at))).collect())
}

/// HMAC and hint of a key.
fn key_of(pair: &Bound<'_, PyAny>) -> PyResult<([u8; 32], Box<str>)> {
    let (digest, hint): (PyBackedBytes, PyBackedStr) = pair.extract()?;
    let digest = digest.first_chunk().filter(|_| digest.len() == 32);
    let digest = digest.ok_or_else(|| PyValueError::new_err("an HMAC has 32 bytes"))?;
    Ok((*digest, (&*hint).into()))
}

fn id_text(py: Python<'_>, id: Uuid) -> Bound<'_, PyString> {
    PyString::new(py, id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

fn entity_kind(name: &str) -> PyResult<EntityKind> {
    EntityKind::named(name)
        .ok_or_else(|| PyValueError::new_err(format!("{name:?} is not a kind of entity that consumers have")))
}
