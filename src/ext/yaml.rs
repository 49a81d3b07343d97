//! YAML for Python: `_native.load_yaml` and `_native.YamlDocument`.
//!
//! In: a file's bytes. Out: plain Python values, and the position of each. It converts and delegates to
//! `aigw_io::yaml`; parsing runs without the GIL.

use std::collections::HashMap;
use std::sync::Arc;

use aigw_io::consumers;
use aigw_io::consumers::read::{References, Resolved, read};
use aigw_io::yaml::{self, Bounds, Content, Document, Mark, NodeId, Section, Step};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::consumers::FileConsumers;
use crate::errors::yaml_error;

/// Keys up to this length are made once and shared: records of one kind repeat them.
const SHARED_KEY: usize = 32;

type Position = (usize, usize, usize);
type Problem<'py> = (String, Position, Bound<'py, PyTuple>);
/// (path, value, whether the string is exactly one reference, the reference where it may be shown)
type ReferenceTuple<'py> = (Bound<'py, PyTuple>, PyBackedStr, bool, Option<PyBackedStr>);
type ScalarPlace<'py> = (usize, usize, Option<Bound<'py, PyTuple>>, bool);

/// Parse a file; see the stub.
#[pyfunction]
#[pyo3(signature = (text, most=yaml::MOST_BYTES))]
pub fn load_yaml(py: Python<'_>, text: PyBackedBytes, most: usize) -> PyResult<YamlDocument> {
    let document = py.detach(|| yaml::load_within(text, Bounds::of(most)));
    document.map(|document| YamlDocument { document }).map_err(yaml_error)
}

/// Parse a file around a section that is known; see the stub.
#[pyfunction]
pub fn load_yaml_without(
    py: Python<'_>,
    text: PyBackedBytes,
    most: usize,
    name: &str,
    section: (usize, usize, usize),
) -> Option<YamlDocument> {
    let (start, end, nodes) = section;
    let section = Section { start, end, nodes };
    let document = py.detach(|| yaml::load_without(text, Bounds::of(most), name, section));
    document.map(|document| YamlDocument { document })
}

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct YamlDocument {
    document: Document<PyBackedBytes>,
}

#[pymethods]
impl YamlDocument {
    #[getter]
    fn problems<'py>(&self, py: Python<'py>) -> PyResult<Vec<Problem<'py>>> {
        let problems = self.document.problems.iter();
        let problems = problems.map(|p| Ok((p.message.clone(), position(p.mark), tuple(py, &p.path)?)));
        problems.collect()
    }

    #[pyo3(signature = (path = None, without = None))]
    fn value<'py>(
        &self,
        py: Python<'py>,
        path: Option<&Bound<'py, PyTuple>>,
        without: Option<&Bound<'py, FileConsumers>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let node = path.map_or(Ok(0), |path| self.find(path).map(|(_, node)| node))?;
        let list = self.document.find(&[Step::Key("consumers".to_owned())]).map(|(_, list)| list);
        let hidden = without.map(|consumers| Arc::clone(&consumers.get().inner)).zip(list);
        Values { document: &self.document, keys: HashMap::new(), hidden }.of(py, node)
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn consumers(&self, py: Python<'_>, references: Vec<ReferenceTuple<'_>>) -> PyResult<FileConsumers> {
        let mut values = References::default();
        for (path, value, is_whole, shown) in references {
            let resolved = Resolved { value: (&*value).into(), is_whole, shown: shown.as_deref().map(Into::into) };
            values.insert(&self.document, &steps(&path)?, resolved);
        }
        let inner = py.detach(|| read(&self.document, &values));
        Ok(FileConsumers { inner: Arc::new(inner) })
    }

    fn section(&self, py: Python<'_>, name: &str) -> Option<(usize, usize, usize)> {
        let found = py.detach(|| yaml::section(&self.document, name))?;
        Some((found.start, found.end, found.nodes))
    }

    fn mark(&self, path: &Bound<'_, PyTuple>) -> PyResult<Position> {
        Ok(position(self.document.mark(self.find(path)?.1)))
    }

    fn key_mark(&self, path: &Bound<'_, PyTuple>) -> PyResult<Position> {
        let key = self.find(path)?.0.ok_or_else(|| missing(path))?;
        Ok(position(self.document.mark(key)))
    }

    fn text(&self, path: &Bound<'_, PyTuple>) -> PyResult<&str> {
        Ok(self.document.text(self.find(path)?.1))
    }

    fn source_text(&self, path: &Bound<'_, PyTuple>) -> PyResult<&str> {
        Ok(self.document.source_text(self.find(path)?.1))
    }

    fn lines(&self, path: &Bound<'_, PyTuple>) -> PyResult<Vec<usize>> {
        let node = self.find(path)?.1;
        let step = if matches!(self.document.content(node), Content::Mapping(..)) { 2 } else { 1 };
        Ok(self.document.children(node).iter().step_by(step).map(|child| self.document.line(*child)).collect())
    }

    fn containing<'py>(&self, py: Python<'py>, needle: &str) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.document.containing(needle).iter().map(|path| tuple(py, path)).collect()
    }

    fn excerpt<'py>(
        &self,
        py: Python<'py>,
        line: usize,
        column: usize,
        width: usize,
    ) -> PyResult<(&str, usize, bool, Vec<ScalarPlace<'py>>)> {
        let (text, before, cut, scalars) = self.document.excerpt(line, column, width);
        let characters = |to: usize| text.get(..to).unwrap_or(text).chars().count();
        let scalars = scalars.iter().map(|p| {
            let path = p.path.as_deref().map(|path| tuple(py, path)).transpose()?;
            Ok((characters(p.from), characters(p.to), path, p.key))
        });
        Ok((text, before, cut, scalars.collect::<PyResult<_>>()?))
    }
}

impl YamlDocument {
    fn find(&self, path: &Bound<'_, PyTuple>) -> PyResult<(Option<NodeId>, NodeId)> {
        self.document.find(&steps(path)?).ok_or_else(|| missing(path))
    }
}

fn steps(path: &Bound<'_, PyTuple>) -> PyResult<Vec<Step>> {
    path.iter().map(|item| step(&item).ok_or_else(|| missing(path))).collect()
}

fn step(item: &Bound<'_, PyAny>) -> Option<Step> {
    if let Ok(name) = item.cast::<PyString>() {
        return Some(Step::Key(name.to_str().ok()?.to_owned()));
    }
    item.extract().ok().map(Step::Index)
}

fn tuple<'py>(py: Python<'py>, path: &[Step]) -> PyResult<Bound<'py, PyTuple>> {
    let items = path.iter().map(|step| match step {
        Step::Key(name) => PyString::new(py, name).into_any(),
        Step::Index(index) => index.into_pyobject(py).map_or_else(|never| match never {}, Bound::into_any),
    });
    PyTuple::new(py, items.collect::<Vec<_>>())
}

fn missing(path: &Bound<'_, PyTuple>) -> PyErr {
    PyKeyError::new_err(path.clone().unbind())
}

fn position(mark: Mark) -> Position {
    (mark.line, mark.column, mark.length)
}

/// Builds Python values. Depth is bounded by the document.
struct Values<'a, 'py> {
    document: &'a Document<PyBackedBytes>,
    keys: HashMap<&'a str, Bound<'py, PyString>>,
    /// Items of the list `consumers` that are left out, because Python needs no value of them.
    hidden: Option<(Arc<consumers::FileConsumers>, NodeId)>,
}

impl<'py> Values<'_, 'py> {
    fn of(&mut self, py: Python<'py>, node: NodeId) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.document.content(node) {
            Content::Null => py.None().into_bound(py),
            Content::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
            Content::Int(value) => value.into_pyobject(py)?.into_any(),
            Content::Float(value) => value.into_pyobject(py)?.into_any(),
            Content::Borrowed(..) | Content::Owned(_) => PyString::new(py, self.document.text(node)).into_any(),
            Content::Sequence(..) => {
                let items = self.document.children(node);
                let hidden = self.hidden.clone().filter(|(_, list)| *list == node);
                let items = items.iter().enumerate().map(|(index, item)| match &hidden {
                    Some((consumers, _)) if !consumers.needs_value(index) => Ok(py.None().into_bound(py)),
                    _ => self.of(py, *item),
                });
                let items = items.collect::<PyResult<Vec<_>>>()?;
                PyList::new(py, items)?.into_any()
            }
            Content::Mapping(..) | Content::Alias(_) => {
                let mapping = PyDict::new(py);
                for pair in self.document.children(node).chunks_exact(2) {
                    let key = self.key(py, pair[0]);
                    mapping.set_item(key, self.of(py, pair[1])?)?;
                }
                mapping.into_any()
            }
        })
    }

    fn key(&mut self, py: Python<'py>, node: NodeId) -> Bound<'py, PyString> {
        let text = self.document.text(node);
        if text.len() > SHARED_KEY || self.keys.len() > 4096 {
            return PyString::new(py, text);
        }
        self.keys.entry(text).or_insert_with(|| PyString::intern(py, text)).clone()
    }
}
