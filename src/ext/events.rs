//! Entries on their way into the ledger's tables: `_native.EventRows`.
//!
//! In: entries of segments. Out: rows of `events`, the sums of all rollups, the times of each block of events, and the numbers whose names
//! must be known. One pass over a batch here replaces several in Python and in SQL. Most columns of most calls are 0: a column that is 0 in a
//! whole batch is in none of its rows, since each value of a row costs as much as its share of the insertion.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aigw_core::entry::sums::{AMOUNTS, MinuteSums, Row, Summand};
use aigw_core::entry::{Ended, TokenSource};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::entries::{Entries, FIELDS, Fields, at, flag};

/// Entities of an entry: consumer, credential, tier, route, model, upstream, service, agent.
const ENTITIES: usize = 8;
/// Those that rollups are kept by.
const KEYS: [usize; 6] = [0, 1, 2, 3, 4, 7];
const COST: usize = AMOUNTS - 1;

/// The largest amount of an event: sums of 32,768 of them fit SQLite's integers.
const LARGEST: u64 = (1 << 48) - 1;

/// Bits of an event's number below a row of `blocks`.
const BLOCK: u32 = 12;

/// Fields from here on are columns of `events`, behind its number and its cursor.
const FIRST_COLUMN: usize = at::SEQUENCE;
/// Columns up to this field are in every row.
const LAST_GIVEN: usize = at::REQUEST;

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct EventRows {
    rows: Py<PyList>,
    /// By field.
    used: [bool; FIELDS],
    /// Numbers of each kind of entity, and the one met last.
    met: [(BTreeSet<u64>, u64); ENTITIES],
    sums: MinuteSums,
    blocks: BTreeMap<u64, (u64, u64)>,
}

/// The calls back into Python, which few entries need.
struct Asked<'a, 'py> {
    version_of: &'a Bound<'py, PyAny>,
    cost_of: &'a Bound<'py, PyAny>,
    versions: HashMap<u64, u64>,
}

impl Asked<'_, '_> {
    /// Makes an entry's amounts and versions those of its row.
    fn complete(&mut self, entry: &mut [u64; FIELDS]) -> PyResult<()> {
        let is_progress =
            entry[at::OUTCOME] == Ended::Crashed as u64 && entry[at::SOURCE] == TokenSource::Counted as u64;
        if is_progress
            && entry[at::FLAGS] & flag::COSTED != 0
            && let Some(cost) = self.cost(entry)?
        {
            entry[at::FIRST_AMOUNT + COST] = cost;
        }
        for amount in &mut entry[at::FIRST_AMOUNT..][..AMOUNTS] {
            *amount = LARGEST.min(*amount);
        }
        for version in [at::PRICE_VERSION, at::COST_VERSION] {
            entry[version] = self.version(entry[version])?;
        }
        Ok(())
    }

    /// The number of a version of prices in the ledger.
    fn version(&mut self, id: u64) -> PyResult<u64> {
        if let Some(known) = self.versions.get(&id) {
            return Ok(*known);
        }
        let number = self.version_of.call1((id,))?.extract()?;
        self.versions.insert(id, number);
        Ok(number)
    }

    /// The cost of a call whose worker died. The process that found its progress knew its price, and of its cost only the reservation's.
    fn cost(&self, entry: &[u64; FIELDS]) -> PyResult<Option<u64>> {
        let [input, cached_input, cache_write, output, reasoning, ..] = entry[at::FIRST_AMOUNT..] else {
            return Ok(None);
        };
        let all_input = input.saturating_add(cached_input).saturating_add(cache_write);
        self.cost_of.call1((entry[at::COST_VERSION], all_input, output.saturating_add(reasoning)))?.extract()
    }
}

#[pymethods]
impl EventRows {
    #[new]
    fn new<'py>(
        py: Python<'py>,
        entries: Vec<(u64, Py<Entries>)>,
        first: u64,
        version_of: &Bound<'py, PyAny>,
        cost_of: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        let mut asked = Asked { version_of, cost_of, versions: HashMap::new() };
        let mut made = Self {
            rows: PyList::empty(py).unbind(),
            used: std::array::from_fn(|place| (FIRST_COLUMN..=LAST_GIVEN).contains(&place)),
            met: Default::default(),
            sums: MinuteSums::default(),
            blocks: BTreeMap::new(),
        };
        let mut complete = Vec::with_capacity(entries.iter().map(|(_, part)| part.get().0.len()).sum());
        for (cursor, part) in entries {
            for entry in &part.get().0 {
                let mut entry = entry.clone();
                asked.complete(&mut entry.numbers)?;
                made.note(first + complete.len() as u64, &entry);
                complete.push((cursor, entry));
            }
        }
        let rows = made.rows.bind(py);
        for (n, (cursor, entry)) in (first..).zip(&complete) {
            rows.append(made.row(py, n, *cursor, entry)?)?;
        }
        Ok(made)
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.rows.bind(py).len()
    }

    #[getter]
    fn rows(&self, py: Python<'_>) -> Py<PyList> {
        self.rows.clone_ref(py)
    }

    #[getter]
    fn used<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, [&[true, true], &self.used[FIRST_COLUMN..]].concat())
    }

    fn met(&self, place: usize) -> BTreeSet<u64> {
        self.met.get(place).map(|(met, _)| met.clone()).unwrap_or_default()
    }

    fn rollup<'py>(&self, py: Python<'py>, seconds: u64) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.sums.by(seconds.max(1)).iter().map(|row| numbers(py, row, 0)).collect()
    }

    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.sums.totals().iter().map(|row| numbers(py, row, 2)).collect()
    }

    fn blocks(&self) -> Vec<(u64, u64, u64)> {
        self.blocks.iter().map(|(&block, &(low, high))| (block, low, high)).collect()
    }

    fn unpriced<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = PyDict::new(py);
        let mut found: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for (_, [_, _, tier, _, model, _], sums) in self.sums.totals() {
            *found.entry((tier, model)).or_default() += sums[10];
        }
        for (key, count) in found.into_iter().filter(|&(_, count)| count > 0) {
            counts.set_item(key, count)?;
        }
        Ok(counts)
    }
}

impl EventRows {
    /// Adds event `n` to its block, to the columns used, to the numbers met and to the sums.
    fn note(&mut self, n: u64, entry: &Fields) {
        let numbers = &entry.numbers;
        for (place, (used, number)) in self.used.iter_mut().zip(numbers).enumerate() {
            *used |= *number != 0 || entry.id(place).is_some_and(Option::is_some);
        }
        let entities: &[u64] = &numbers[at::FIRST_ENTITY..][..ENTITIES];
        for (&entity, (met, last)) in entities.iter().zip(&mut self.met) {
            if *last != entity {
                *last = entity;
                met.insert(entity);
            }
        }
        let (admitted_at, flags) = (numbers[at::ADMITTED_AT], numbers[at::FLAGS]);
        let block = self.blocks.entry(n >> BLOCK).or_insert((admitted_at, admitted_at));
        *block = (block.0.min(admitted_at), block.1.max(admitted_at));
        self.sums.add(&Summand {
            admitted_at,
            keys: KEYS.map(|key| entities[key]),
            status: numbers[at::STATUS],
            ended: numbers[at::OUTCOME],
            counted: flags & flag::COUNTED != 0,
            overrun: flags & flag::OVERRUN != 0,
            costed: flags & flag::COSTED != 0,
            amounts: std::array::from_fn(|amount| numbers[at::FIRST_AMOUNT + amount]),
        });
    }

    /// The row of event `n`: its number, its cursor, and its columns in use.
    fn row<'py>(&self, py: Python<'py>, n: u64, cursor: u64, entry: &Fields) -> PyResult<Bound<'py, PyTuple>> {
        let mut row: Vec<Bound<'py, PyAny>> = Vec::with_capacity(FIELDS);
        row.push(n.into_pyobject(py)?.into_any());
        row.push(cursor.into_pyobject(py)?.into_any());
        for (place, number) in
            entry.numbers.iter().enumerate().skip(FIRST_COLUMN).filter(|(place, _)| self.used[*place])
        {
            row.push(match (place, entry.id(place)) {
                (_, Some(Some(id))) => PyBytes::new(py, id).into_any(),
                (at::REQUEST, Some(None)) => PyBytes::new(py, &[0; 16]).into_any(),
                (_, Some(None)) => py.None().into_bound(py),
                (at::ENDED_AT, None) => {
                    let duration = i128::from(*number) - i128::from(entry.numbers[at::ADMITTED_AT]);
                    duration.into_pyobject(py)?.into_any()
                }
                (_, None) => number.into_pyobject(py)?.into_any(),
            });
        }
        PyTuple::new(py, row)
    }
}

/// (start, entities from number `skip` on, sums)
fn numbers<'py>(py: Python<'py>, (start, keys, sums): &Row, skip: usize) -> PyResult<Bound<'py, PyTuple>> {
    let row: Vec<u64> = [*start].iter().chain(&keys[skip..]).chain(sums).copied().collect();
    PyTuple::new(py, row)
}
