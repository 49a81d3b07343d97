//! The counters as files: columns that grow under workers, slots that outlive nobody, counts that survive kill -9,
//! and a full disk that is an error. Worker processes are this test binary, run again as `a_worker_process`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod without_ledger;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aigw_core::admit::{Admitter, Check, NotTaken, Permit};
use aigw_core::cells::{CellKey, Cells};
use aigw_core::limits::{Demand, Limit, Period, Usage};
use aigw_core::standing::Counter;
use aigw_core::units::{RequestId, UnixSeconds};
use aigw_io::cells::{ControlCells, Part, SlotState, WorkerCells, set_aside_foreign};
use aigw_io::clock::machine_millis;
use aigw_io::ledger::CONTROL_SLOT;
use without_ledger::DRAFT;

const STORE: [u64; 2] = [11, 22];
const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const LIMIT: u32 = 250_000;

/// A cells folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cells-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn cells(&self) -> PathBuf {
        self.0.join("cells")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn window(requests: u32, per: Period) -> Limit {
    Limit::build("window", &serde_json::json!({"requests": requests, "per": per.to_string()})).unwrap()
}

fn check(column: u32, row: u32, limit: u32) -> Check {
    Check::new(window(limit, Period::Day), CellKey::Dense { column, row })
}

fn read(control: &ControlCells, column: u32, row: u32) -> (u32, u32) {
    let counter = Counter::new(window(u32::MAX, Period::Day), column, row);
    let standing = control.standing(vec![counter], NOW.into()).unwrap();
    let amount = |amount: u64| u32::try_from(amount).unwrap();
    (amount(standing[0].used + standing[0].reserved), amount(standing[0].reserved))
}

#[test]
fn places_are_shared_by_workers_and_free_after_a_restart_of_the_machine() {
    let folder = Folder::new();
    let calls = Limit::build("concurrency", &serde_json::json!({"calls": 3})).unwrap();
    let place = || [Check::new(calls, CellKey::Dense { column: 5, row: 99 })];
    {
        let control = ControlCells::open(&folder.cells(), STORE).unwrap();
        control.ensure_column(5, 16, 100, "concurrency:a").unwrap();
        let workers = [0, 1].map(|_| Arc::new(WorkerCells::open(&folder.cells(), STORE).unwrap()));
        let take = |worker: usize| {
            let admitter = Admitter::new(Arc::clone(&workers[worker]));
            admitter.take(&mut place(), &Demand::default(), NOW, RequestId::default())
        };
        let (first, second, third) = (take(0).unwrap(), take(1).unwrap(), take(1).unwrap());
        assert!(matches!(take(0), Err(NotTaken::Exceeded(0))) && matches!(take(1), Err(NotTaken::Exceeded(0))));
        second.settle(&Usage::ANSWERED);
        let fourth = take(0).unwrap();
        let standing = control.standing(vec![Counter::new(calls, 5, 99)], NOW.into()).unwrap();
        assert_eq!((standing[0].used, standing[0].reserved, standing[0].remaining), (3, 0, 0));
        control.ensure_column(5, 16, 200, "concurrency:a").unwrap();
        assert!(matches!(take(0), Err(NotTaken::Exceeded(0))), "a column that grows keeps its calls");
        std::mem::forget((first, third, fourth));
    }
    // As after a loss of power: another boot, and journals that name no place.
    let slots = fs::read_dir(folder.cells()).unwrap().map(|file| file.unwrap().path());
    slots.filter(|path| path.to_string_lossy().contains("slot")).for_each(|path| fs::remove_file(path).unwrap());
    let column = folder.cells().join("column-5");
    let mut bytes = fs::read(&column).unwrap();
    bytes[(512 - 256) * 8] ^= 1;
    fs::write(&column, bytes).unwrap();
    let control = ControlCells::open(&folder.cells(), STORE).unwrap();
    control.ensure_column(5, 16, 200, "concurrency:a").unwrap();
    let standing = control.standing(vec![Counter::new(calls, 5, 99)], NOW.into()).unwrap();
    assert_eq!(standing[0].used, 0);
}

#[test]
fn a_worker_sees_columns_made_and_grown_after_it_started() {
    let folder = Folder::new();
    let control = ControlCells::open(&folder.cells(), STORE).unwrap();
    let worker = Arc::new(WorkerCells::open(&folder.cells(), STORE).unwrap());
    let admitter = Admitter::new(Arc::clone(&worker));
    assert_eq!(
        admitter.take(&mut [check(5, 0, 9)], &Demand::default(), NOW, RequestId::default()).err(),
        Some(NotTaken::Missing { column: 5, row: 0 })
    );
    let mut rows = 10;
    for _ in 0..6 {
        control.ensure_column(5, 1, rows, "requests:a").unwrap();
        let row = u32::try_from(rows - 1).unwrap();
        for used in 0..3_u64 {
            let mut checks = [check(5, row, 9)];
            admitter.take(&mut checks, &Demand::default(), NOW, RequestId::default()).unwrap().settle(&Usage::ANSWERED);
            assert_eq!(checks[0].state.used, used);
        }
        assert_eq!(read(&control, 5, row), (3, 0));
        rows *= 7;
    }
    // A smaller size changes nothing; counts stay, also for later readers.
    control.ensure_column(5, 1, 1, "requests:a").unwrap();
    assert_eq!(read(&ControlCells::open(&folder.cells(), STORE).unwrap(), 5, 9), (3, 0));
    assert!(worker.dense(5, u32::MAX).is_none() && worker.dense(u32::MAX, 0).is_none());
    assert_eq!(read(&control, 77, 3), (0, 0));
}

#[test]
fn column_refuses_another_key_or_width() {
    let folder = Folder::new();
    let control = ControlCells::open(&folder.cells(), STORE).unwrap();
    control.ensure_column(1, 1, 1, "requests:a").unwrap();
    for (width, key) in [(1, "requests:b"), (2, "requests:a")] {
        let error = control.ensure_column(1, width, 1, key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("move the cells folder away"), "{error}");
    }
    for (number, width, rows) in [(1 << 20, 1, 1), (2, 3, 1), (2, 1, u64::MAX)] {
        assert_eq!(control.ensure_column(number, width, rows, "x").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn wide_rows_do_not_touch_each_other() {
    let folder = Folder::new();
    let control = ControlCells::open(&folder.cells(), STORE).unwrap();
    control.ensure_column(1, 4, 2_000, "wide").unwrap();
    let worker = WorkerCells::open(&folder.cells(), STORE).unwrap();
    for row in 0..2_000 {
        worker.dense(1, row).unwrap().store(u64::from(row) + 1, Ordering::SeqCst);
    }
    assert!((0..2_000).all(|row| worker.dense(1, row).unwrap().load(Ordering::SeqCst) == u64::from(row) + 1));
}

#[test]
fn counters_of_another_store_are_set_aside() {
    let folder = Folder::new();
    assert_eq!(set_aside_foreign(&folder.cells(), STORE).unwrap(), None);
    let control = ControlCells::open(&folder.cells(), STORE).unwrap();
    control.ensure_column(1, 1, 1, "requests:a").unwrap();
    assert_eq!(set_aside_foreign(&folder.cells(), STORE).unwrap(), None);
    for error in [ControlCells::open(&folder.cells(), [1, 1]).err(), WorkerCells::open(&folder.cells(), [1, 1]).err()] {
        assert_eq!(error.unwrap().kind(), ErrorKind::InvalidData);
    }
    let aside = set_aside_foreign(&folder.cells(), [1, 1]).unwrap().unwrap();
    assert!(aside.join("column-1").exists() && !folder.cells().exists());
    assert_eq!(read(&ControlCells::open(&folder.cells(), [1, 1]).unwrap(), 1, 0), (0, 0));
}

#[test]
fn a_slot_shows_its_owner_and_is_free_when_it_is_gone() {
    let folder = Folder::new();
    let control = ControlCells::open(&folder.cells(), STORE).unwrap();
    control.ensure_column(1, 1, 1, "requests:a").unwrap();
    assert_eq!(control.slots().unwrap(), []);
    let (first, second) =
        (WorkerCells::open(&folder.cells(), STORE).unwrap(), WorkerCells::open(&folder.cells(), STORE).unwrap());
    second.status().set_state(SlotState::Ready);
    second.status().set_generation(7);
    second.status().set_inline(true);
    second.status().in_flight().fetch_add(3, Ordering::Relaxed);
    assert_eq!(control.slots().unwrap()[1].state, SlotState::Silent, "it has not moved since the machine started");
    for part in [Part::Loop, Part::Server, Part::Upstream] {
        second.status().beat(part, machine_millis());
    }
    let slots = control.slots().unwrap();
    assert_eq!(
        slots.iter().map(|slot| (slot.slot, slot.state)).collect::<Vec<_>>(),
        [(0, SlotState::Starting), (1, SlotState::Ready)]
    );
    assert_eq!((slots[1].pid, slots[1].generation), (std::process::id(), 7));
    assert_eq!((slots[1].in_flight, slots[1].inline), (3, true));
    assert_eq!(control.reclaim().unwrap(), [], "the living keep what they have");
    // A permit keeps its place, and so its slot, until it ends.
    let first = Arc::new(first);
    let permit = Admitter::new(Arc::clone(&first))
        .take(&mut [check(1, 0, 9)], &Demand::default(), NOW, RequestId::default())
        .unwrap();
    assert_eq!(read(&control, 1, 0), (1, 1));
    std::mem::forget(permit);
    drop(first);
    assert_eq!(control.reclaim().unwrap(), [], "a place with a permit out is alive");
    drop(second);
    let reclaimed = control.reclaim().unwrap();
    assert_eq!((reclaimed.len(), reclaimed[0].slot, reclaimed[0].found.open), (1, 1, 0));
    assert_eq!(control.slots().unwrap().len(), 1);
}

#[test]
fn a_full_disk_is_an_error_and_harms_nothing() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(&folder.0, "9m") else { return };
    let cells = disk.0.join("cells");
    let control = ControlCells::open(&cells, STORE).unwrap();
    control.ensure_column(1, 1, 100, "requests:a").unwrap();
    let error = control.ensure_column(1, 1, 10_000_000, "requests:a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    // A worker's journal finds no room either.
    fs::write(disk.0.join("fill"), vec![0; 16 << 20]).unwrap_err();
    assert_eq!(WorkerCells::open(&cells, STORE).err().unwrap().kind(), ErrorKind::StorageFull);
    assert_eq!(control.ensure_column(2, 1, 1, "requests:b").unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(!cells.join("column-2").exists());
    fs::remove_file(disk.0.join("fill")).unwrap();
    let big = ControlCells::open(&cells, STORE).unwrap();
    assert_eq!(read(&big, 1, 99), (0, 0));
    assert_eq!(read(&big, 1, 9_999_999), (0, 0), "rows that have no blocks do not exist");
    control.ensure_column(2, 1, 1, "requests:b").unwrap();
}

/// A file system of a few MiB, if this machine lets us have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let path = at.join("disk");
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: a small tmpfs can be mounted by root only");
        }
        mounted.then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

// ---- processes ----

/// A worker process under test: takes orders as lines on stdin, answers on stdout.
struct Process {
    child: Child,
    orders: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(cells: &Path, tally: u32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_worker_process", "--nocapture", "--test-threads=1"])
            .env("AIGW_TEST_CELLS", cells)
            .env("AIGW_TEST_TALLY", tally.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self { child, orders, said };
        process.hear("open");
        process
    }

    fn order(&mut self, line: &str) {
        writeln!(self.orders, "{line}").unwrap();
    }

    fn hear(&mut self, line: &str) {
        assert!(self.said.by_ref().map_while(Result::ok).any(|said| said == line), "the process ended before {line:?}");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rows of the tally column: counted when a permit was sent, and when it was answered.
const TALLY: u32 = 2;
const HAD: u32 = 0;
const ANSWERED: u32 = 1;

/// The program of the processes above, not a test by itself.
#[test]
fn a_worker_process() {
    let Ok(cells) = std::env::var("AIGW_TEST_CELLS") else { return };
    let row: u32 = std::env::var("AIGW_TEST_TALLY").unwrap().parse().unwrap();
    let worker = Arc::new(WorkerCells::open(Path::new(&cells), STORE).unwrap());
    let admitter = Admitter::new(Arc::clone(&worker));
    println!("\nopen");
    let tally = |kind| worker.dense(TALLY, row * 2 + kind).unwrap();
    let mut order = String::new();
    std::io::stdin().read_line(&mut order).unwrap();
    let mut checks = [check(1, 0, LIMIT), Check::new(window(LIMIT, Period::Month), admitter.open_key(9, b"shared"))];
    let id = RequestId([1, row.into()]);
    if order.trim() == "hold" {
        let _held: Vec<Permit<WorkerCells>> =
            (0..1_000).map(|_| admitter.take(&mut checks, &Demand::default(), NOW, id).unwrap()).collect();
        let mut sent: Vec<Permit<WorkerCells>> =
            (0..10).map(|_| admitter.take(&mut checks, &Demand::default(), NOW, id).unwrap()).collect();
        for permit in &mut sent {
            permit.mark_sent(&DRAFT);
        }
        println!("\nholding");
        loop {
            std::thread::park();
        }
    }
    for n in 0.. {
        match admitter.take(&mut checks, &Demand::default(), NOW, id) {
            Ok(mut permit) if n % 5 != 0 => {
                // A permit that is killed before this line goes back, and another call has it.
                permit.mark_sent(&DRAFT);
                tally(HAD).fetch_add(1, Ordering::SeqCst);
                tally(ANSWERED).fetch_add(1, Ordering::SeqCst);
                permit.settle(&Usage::ANSWERED);
            }
            Ok(permit) => permit.give_back(),
            Err(NotTaken::Exceeded(_)) => break,
            // The lock of the open area can be busy while so many start at once.
            Err(refusal) => assert!(matches!(refusal, NotTaken::Busy(_)), "{refusal}"),
        }
        if n % 200 == 0 {
            println!("\nworking");
        }
    }
    println!("\nexhausted");
}

#[test]
fn reclaim_gives_back_held_permits_and_keeps_sent_ones() {
    let folder = Folder::new();
    let control = ControlCells::open(&folder.cells(), STORE).unwrap();
    control.ensure_column(1, 1, 1, "requests:a").unwrap();
    let mut process = Process::start(&folder.cells(), 0);
    process.order("hold");
    process.hear("holding");
    assert_eq!(read(&control, 1, 0), (1_010, 1_010));
    assert_eq!(control.reclaim().unwrap(), []);
    process.kill();
    let reclaimed = control.reclaim().unwrap();
    assert_eq!((reclaimed[0].found.open, reclaimed[0].found.given_back), (1_010, 1_000));
    assert_eq!(read(&control, 1, 0), (10, 0));
    assert_eq!(control.slots().unwrap(), []);
    // The open counter was given back too: all that is left can be had.
    let worker = Arc::new(WorkerCells::open(&folder.cells(), STORE).unwrap());
    let admitter = Admitter::new(Arc::clone(&worker));
    let mut checks = [Check::new(window(LIMIT, Period::Month), admitter.open_key(9, b"shared"))];
    admitter.peek(&mut checks, &Demand::default(), NOW).unwrap();
    assert_eq!(checks[0].state.used, 10);
}

/// A control process may die between the row of a permit and the permit's end: the next one must find the row.
#[test]
fn segments_of_dead_control_processes_are_needed_while_a_dead_worker_has_permits() {
    let folder = Folder::new();
    let control = ControlCells::open(&folder.cells(), STORE).unwrap();
    control.ensure_column(1, 1, 1, "requests:a").unwrap();
    let are_needed = || control.has_permits_of(CONTROL_SLOT, 1).unwrap();
    assert!(!are_needed());
    let mut process = Process::start(&folder.cells(), 0);
    process.order("hold");
    process.hear("holding");
    assert!(!are_needed(), "the permits of the living have no rows yet");
    process.kill();
    assert!(are_needed());
    control.reclaim().unwrap();
    assert!(!are_needed());
}

#[test]
fn eight_processes_under_kill_9_never_pass_the_limit() {
    const PROCESSES: u32 = 8;
    const KILLS: u32 = 24;
    let folder = Folder::new();
    let control = ControlCells::open(&folder.cells(), STORE).unwrap();
    control.ensure_column(1, 1, 1, "requests:a").unwrap();
    control.ensure_column(TALLY, 1, u64::from(PROCESSES) * 2, "tally").unwrap();
    let start = |tally| {
        let mut process = Process::start(&folder.cells(), tally);
        process.order("work");
        process
    };
    let mut processes: Vec<_> = (0..PROCESSES).map(start).collect();
    let mut caught = 0;
    for kill in 0..KILLS {
        let n = (kill * 5 % PROCESSES) as usize;
        // Whoever is done says so and no more: its replacement is done at once.
        let _ = processes[n].said.by_ref().map_while(Result::ok).find(|said| said == "working" || said == "exhausted");
        let fresh = start(u32::try_from(n).unwrap());
        std::mem::replace(&mut processes[n], fresh).kill();
        // Every other time the slot is left to the next worker that starts.
        if kill % 2 == 0 {
            let reclaimed = control.reclaim().unwrap();
            caught += reclaimed.iter().map(|slot| slot.found.open).sum::<usize>();
        }
    }
    for process in &mut processes {
        process.hear("exhausted");
    }
    drop(processes);
    control.reclaim().unwrap();
    let tally = |kind: u32| -> u32 {
        let words = control.run(TALLY, 0, PROCESSES * 2);
        words.iter().skip(kind as usize).step_by(2).map(|count| u32::try_from(*count).unwrap()).sum()
    };
    let (had, answered, (count, held)) = (tally(HAD), tally(ANSWERED), read(&control, 1, 0));
    assert!(had <= LIMIT && answered <= count, "{had} admitted, {answered} answered, {count} counted of {LIMIT}");
    assert_eq!(held, 0);
    // Each process had one permit in flight when it was killed; a few more were given back after the last looked.
    assert!(count - answered <= KILLS, "{answered} answered, {count} counted, {caught} caught in flight");
    assert!(LIMIT - count <= PROCESSES, "{count} counted of {LIMIT}");
}
