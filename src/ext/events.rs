//! Entries on their way into the ledger's tables: `_native.EventRows`.
//!
//! In: entries of segments as tuples, as `Ledger.read` makes them. Out: rows of `events`, the sums of all rollups, the times of each block of
//! events, and the numbers whose names must be known. One pass over a batch here replaces several in Python and in SQL.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aigw_core::entry::sums::{AMOUNTS, MinuteSums, Row, Summand};
use aigw_core::entry::{Ended, TokenSource};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

/// Places in an entry's tuple, as `aigw.ledger.source.ENTRY` has them.
const SEQUENCE: usize = 3;
const ADMITTED_AT: usize = 4;
const ENDED_AT: usize = 5;
const REQUEST: usize = 6;
const FIRST_ENTITY: usize = 9;
const STATUS: usize = 17;
const OUTCOME: usize = 20;
const SOURCE: usize = 21;
const FLAGS: usize = 22;
const FIRST_AMOUNT: usize = 23;
const PRICE_VERSION: usize = FIRST_AMOUNT + AMOUNTS;
const COST_VERSION: usize = PRICE_VERSION + 1;

/// Entities of an entry: consumer, credential, tier, route, model, upstream, service, agent.
const ENTITIES: usize = 8;
/// Those that rollups are kept by.
const KEYS: [usize; 6] = [0, 1, 2, 3, 4, 7];
const COST: usize = AMOUNTS - 1;

const COUNTED: u64 = 1;
const OVERRUN: u64 = 1 << 1;
const COSTED: u64 = 1 << 4;

/// The largest amount of an event: sums of 32,768 of them fit SQLite's integers.
const LARGEST: u64 = (1 << 48) - 1;

/// Bits of an event's number below a row of `blocks`.
const BLOCK: u32 = 12;

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct EventRows {
    rows: Py<PyList>,
    count: usize,
    /// Numbers of each kind of entity, and the one met last.
    met: [(BTreeSet<u64>, u64); ENTITIES],
    sums: MinuteSums,
    blocks: BTreeMap<u64, (u64, u64)>,
}

/// The calls back into Python, which few entries need.
struct Asked<'a, 'py> {
    version_of: &'a Bound<'py, PyAny>,
    cost_of: &'a Bound<'py, PyAny>,
    versions: HashMap<u64, Bound<'py, PyAny>>,
    no_request: Bound<'py, PyAny>,
}

impl<'py> Asked<'_, 'py> {
    /// The number of a version of prices in the ledger.
    fn version(&mut self, entry: &Bound<'py, PyTuple>, at: usize) -> PyResult<Bound<'py, PyAny>> {
        let id: u64 = entry.get_item(at)?.extract()?;
        if let Some(known) = self.versions.get(&id) {
            return Ok(known.clone());
        }
        let number = self.version_of.call1((id,))?;
        self.versions.insert(id, number.clone());
        Ok(number)
    }

    /// Adds the amounts of an entry to its row, and returns them.
    fn push_amounts(&self, entry: &Bound<'py, PyTuple>, row: &mut Vec<Bound<'py, PyAny>>) -> PyResult<[u64; AMOUNTS]> {
        let number = |at: usize| entry.get_item(at)?.extract::<u64>();
        let mut amounts = [0; AMOUNTS];
        for (amount, at) in amounts.iter_mut().zip(FIRST_AMOUNT..) {
            *amount = number(at)?;
        }
        let was = amounts;
        let is_progress = number(OUTCOME)? == Ended::Crashed as u64 && number(SOURCE)? == TokenSource::Counted as u64;
        if is_progress && number(FLAGS)? & COSTED != 0 {
            let [tokens @ .., _, _] = amounts;
            amounts[COST] = self.cost(entry, tokens)?.unwrap_or(amounts[COST]);
        }
        for ((amount, was), at) in amounts.iter_mut().zip(was).zip(FIRST_AMOUNT..) {
            *amount = LARGEST.min(*amount);
            row.push(if *amount == was { entry.get_item(at)? } else { amount.into_pyobject(entry.py())?.into_any() });
        }
        Ok(amounts)
    }

    /// The cost of a call whose worker died. The process that found its progress knew its price, and of its cost only the reservation's.
    fn cost(&self, entry: &Bound<'py, PyTuple>, tokens: [u64; 5]) -> PyResult<Option<u64>> {
        let [input, cached_input, cache_write, output, reasoning] = tokens;
        let all_input = input.saturating_add(cached_input).saturating_add(cache_write);
        self.cost_of.call1((entry.get_item(COST_VERSION)?, all_input, output.saturating_add(reasoning)))?.extract()
    }
}

#[pymethods]
impl EventRows {
    #[new]
    fn new<'py>(
        py: Python<'py>,
        entries: &Bound<'py, PyList>,
        first: u64,
        version_of: &Bound<'py, PyAny>,
        cost_of: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        let no_request = PyBytes::new(py, &[0; 16]).into_any();
        let mut asked = Asked { version_of, cost_of, versions: HashMap::new(), no_request };
        let mut made = Self {
            rows: PyList::empty(py).unbind(),
            count: 0,
            met: Default::default(),
            sums: MinuteSums::default(),
            blocks: BTreeMap::new(),
        };
        let rows = made.rows.bind(py).clone();
        for part in entries {
            let (cursor, of): (Bound<'py, PyAny>, Bound<'py, PyList>) = part.extract()?;
            for entry in of {
                let n = first + made.count as u64;
                rows.append(made.row(py, n, &cursor, entry.cast::<PyTuple>()?, &mut asked)?)?;
                made.count += 1;
            }
        }
        Ok(made)
    }

    fn __len__(&self) -> usize {
        self.count
    }

    #[getter]
    fn rows(&self, py: Python<'_>) -> Py<PyList> {
        self.rows.clone_ref(py)
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
    /// The row of an entry. Its numbers are added to the sums.
    fn row<'py>(
        &mut self,
        py: Python<'py>,
        n: u64,
        cursor: &Bound<'py, PyAny>,
        entry: &Bound<'py, PyTuple>,
        asked: &mut Asked<'_, 'py>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let number = |at: usize| entry.get_item(at)?.extract::<u64>();
        let mut row: Vec<Bound<'py, PyAny>> = Vec::with_capacity(entry.len());
        row.push(n.into_pyobject(py)?.into_any());
        row.push(cursor.clone());
        row.push(entry.get_item(SEQUENCE)?);
        row.push(entry.get_item(ADMITTED_AT)?);
        let (admitted_at, ended_at) = (number(ADMITTED_AT)?, number(ENDED_AT)?);
        row.push((i128::from(ended_at) - i128::from(admitted_at)).into_pyobject(py)?.into_any());
        let request = entry.get_item(REQUEST)?;
        row.push(if request.is_none() { asked.no_request.clone() } else { request });
        for at in REQUEST + 1..FIRST_AMOUNT {
            row.push(entry.get_item(at)?);
        }
        let (outcome, flags) = (number(OUTCOME)?, number(FLAGS)?);
        let amounts = asked.push_amounts(entry, &mut row)?;
        row.push(asked.version(entry, PRICE_VERSION)?);
        row.push(asked.version(entry, COST_VERSION)?);
        for at in COST_VERSION + 1..entry.len() {
            row.push(entry.get_item(at)?);
        }
        let mut entities = [0; ENTITIES];
        for (entity, at) in entities.iter_mut().zip(FIRST_ENTITY..) {
            *entity = number(at)?;
        }
        self.note(
            n,
            &entities,
            &Summand {
                admitted_at,
                keys: KEYS.map(|key| entities[key]),
                status: number(STATUS)?,
                ended: outcome,
                counted: flags & COUNTED != 0,
                overrun: flags & OVERRUN != 0,
                costed: flags & COSTED != 0,
                amounts,
            },
        );
        PyTuple::new(py, row)
    }

    /// Adds event `n` to its block, to the numbers met and to the sums.
    fn note(&mut self, n: u64, entities: &[u64; ENTITIES], entry: &Summand) {
        for (&entity, (met, last)) in entities.iter().zip(&mut self.met) {
            if *last != entity {
                *last = entity;
                met.insert(entity);
            }
        }
        let at = entry.admitted_at;
        let block = self.blocks.entry(n >> BLOCK).or_insert((at, at));
        *block = (block.0.min(at), block.1.max(at));
        self.sums.add(entry);
    }
}

/// (start, entities from number `skip` on, sums)
fn numbers<'py>(py: Python<'py>, (start, keys, sums): &Row, skip: usize) -> PyResult<Bound<'py, PyTuple>> {
    let row: Vec<u64> = [*start].iter().chain(&keys[skip..]).chain(sums).copied().collect();
    PyTuple::new(py, row)
}
