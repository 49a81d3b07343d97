//! Plain consumers for the control plane: `_native.Leans`.
//!
//! In: `Plain` tuples and the HMACs of their keys. Out: records for the store, made when they are asked for. It converts and
//! delegates to `aigw_io::lean`; identities are made without the GIL.

use std::collections::HashMap;

use aigw_core::snapshot::{Uuid, parse_uuid};
use aigw_io::lean::{self, Kind, Lean, Named, hex};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

/// (place, line, username, tier's name, key, `key_hash`, `key_line`, written)
type PlainTuple = (
    usize,
    usize,
    PyBackedStr,
    Option<PyBackedStr>,
    Option<PyBackedStr>,
    Option<PyBackedStr>,
    usize,
    Option<PyBackedStr>,
);
/// (id, username, tier's id, line, hash, key's id, hmac, hint, key's line, key's hash, written)
type LeanTuple<'py> = (
    String,
    &'py str,
    Option<&'py str>,
    usize,
    String,
    String,
    Bound<'py, PyBytes>,
    &'py str,
    usize,
    String,
    Option<&'py str>,
);
/// (origin, id)
type Moved = (String, String);

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct Leans {
    inner: lean::Leans,
    hashed: bool,
}

#[pymethods]
impl Leans {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn new(
        py: Python<'_>,
        file: &str,
        now: u64,
        plain: Vec<PlainTuple>,
        digests: Vec<PyBackedBytes>,
        tiers: HashMap<String, String>,
    ) -> PyResult<Self> {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut ids = Vec::new();
        for (name, id) in &tiers {
            places.insert(name, ids.len());
            ids.push(id.clone());
        }
        if plain.len() != digests.len() {
            return Err(PyValueError::new_err("each consumer has one key"));
        }
        py.detach(|| {
            let mut inner = lean::Leans::new(file, now, ids);
            for (one, digest) in plain.iter().zip(&digests) {
                let (_, line, username, tier, key, _, key_line, written) = one;
                let digest =
                    <[u8; 32]>::try_from(&**digest).map_err(|_| PyValueError::new_err("an hmac has 32 bytes"))?;
                let tier = tier.as_deref().map(|name| {
                    places
                        .get(name)
                        .copied()
                        .ok_or_else(|| PyValueError::new_err(format!("no tier is called {name:?}")))
                });
                let (line, key_line, tier) = (*line, *key_line, tier.transpose()?);
                let (key, written) = (key.as_deref(), written.as_deref());
                inner.push(&Named { username, tier, line, key, digest, key_line, written });
            }
            Ok(Self { inner, hashed: plain.iter().any(|one| one.5.is_some()) })
        })
    }

    fn __len__(&self) -> usize {
        self.inner.all.len()
    }

    fn __getitem__<'py>(slf: &'py Bound<'py, Self>, index: usize) -> PyResult<LeanTuple<'py>> {
        let this = slf.get();
        let one = this.at(index)?;
        Ok((
            one.id.to_string(),
            &one.username,
            this.tier(one),
            one.line,
            hex(&one.hash.0),
            one.key_id.to_string(),
            PyBytes::new(slf.py(), &one.digest),
            &one.hint,
            one.key_line,
            hex(&one.key_hash.0),
            one.written.as_deref(),
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
        let (kind, mut highest) = (half(kind)?, highest);
        let part = self.inner.all.get(start..stop).ok_or_else(|| PyIndexError::new_err(stop))?;
        let mut records = Vec::with_capacity(part.len());
        for one in part {
            let id = text(py, one.id(kind));
            let n = if let Some(n) = known.get_item(&id)? {
                n.extract()?
            } else {
                highest += 1;
                highest
            };
            let (body, origin) = (self.inner.body(kind, one, None), self.inner.origin(kind, one));
            records.push(match kind {
                Kind::Consumer => (n, id, &*one.username, self.tier(one), body, origin).into_pyobject(py)?,
                Kind::Key => {
                    (n, id, text(py, one.id), PyBytes::new(py, &one.digest), body, origin).into_pyobject(py)?
                }
            });
        }
        Ok((records, highest))
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn rewritten<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        found: Vec<(usize, i64, u64)>,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let kind = half(kind)?;
        let record = |&(index, n, made): &(usize, i64, u64)| {
            let one = self.at(index)?;
            let (body, origin) = (self.inner.body(kind, one, Some(made)), self.inner.origin(kind, one));
            match kind {
                Kind::Consumer => (self.tier(one), body, origin, n).into_pyobject(py),
                Kind::Key => (body, origin, n).into_pyobject(py),
            }
        };
        found.iter().map(record).collect()
    }

    fn sift<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        stored: &Bound<'py, PyDict>,
    ) -> PyResult<(Vec<usize>, Bound<'py, PyDict>, Vec<Moved>)> {
        let kind = half(kind)?;
        let (mut absent, changed, mut moved) = (Vec::new(), PyDict::new(py), Vec::new());
        for (index, one) in self.inner.all.iter().enumerate() {
            let id = text(py, one.id(kind));
            let Some(there) = stored.get_item(&id)? else {
                absent.push(index);
                continue;
            };
            let (there, origin) = (there.cast::<PyString>()?.to_str()?, self.inner.origin(kind, one));
            if there != origin {
                if !lean::Leans::same(kind, one, there) {
                    changed.set_item(id, index)?;
                    continue;
                }
                moved.push((origin, one.id(kind).to_string()));
            }
            stored.del_item(id)?;
        }
        Ok((absent, changed, moved))
    }

    fn username(&self, id: &str) -> Option<&str> {
        let id = parse_uuid(id)?;
        self.inner.all.iter().find(|one| one.id == id).map(|one| &*one.username)
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn holding(&self, digests: Vec<PyBackedBytes>) -> Vec<(usize, usize)> {
        let wanted: HashMap<&[u8], usize> = digests.iter().enumerate().map(|(at, digest)| (&**digest, at)).collect();
        let all = self.inner.all.iter().enumerate();
        all.filter_map(|(index, one)| wanted.get(&one.digest[..]).map(|at| (*at, index))).collect()
    }

    fn twins(&self) -> Vec<(usize, usize)> {
        // Keys were compared as they stand in the file: only one and its hash can be the same unnoticed.
        if self.hashed { self.inner.twins() } else { Vec::new() }
    }
}

impl Leans {
    fn at(&self, index: usize) -> PyResult<&Lean> {
        self.inner.all.get(index).ok_or_else(|| PyIndexError::new_err(index))
    }

    fn tier(&self, one: &Lean) -> Option<&str> {
        one.tier.and_then(|tier| self.inner.tiers.get(tier)).map(String::as_str)
    }
}

fn text(py: Python<'_>, id: Uuid) -> Bound<'_, PyString> {
    PyString::new(py, id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

fn half(kind: &str) -> PyResult<Kind> {
    match kind {
        "consumers" => Ok(Kind::Consumer),
        "keyauth_credentials" => Ok(Kind::Key),
        _ => Err(PyValueError::new_err(format!("none of them are {kind:?}"))),
    }
}
