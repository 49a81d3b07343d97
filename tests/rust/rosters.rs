//! Rows of metrics as files: claimed by workers, made by the control process before, kept from earlier versions.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aigw_core::accept::openai::Endpoint;
use aigw_core::snapshot::file::Highest;
use aigw_core::telemetry::series::{CallNames, CallReport};
use aigw_io::access_log::AccessLog;
use aigw_io::cells::{ControlCells, WorkerCells};
use aigw_io::metrics::{self, Labels};
use aigw_io::record::Recorder;
use aigw_io::rosters;

const STORE: [u64; 2] = [11, 22];
const PAIRS: Highest = Highest { route: 0, tier: 600, series: 360_000, calls: 360_000 };

/// A cells folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rosters-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn control(&self) -> ControlCells {
        let control = ControlCells::open(&self.0.join("cells"), STORE).unwrap();
        metrics::prepare(&control, PAIRS).unwrap();
        control
    }

    fn worker(&self) -> Recorder {
        let cells = Arc::new(WorkerCells::open(&self.0.join("cells"), STORE).unwrap());
        Recorder::new(cells, AccessLog::open("off").unwrap())
    }

    fn bytes(&self) -> u64 {
        fs::read_dir(self.0.join("cells")).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn call(worker: &Recorder, tier: u32, model: u32) -> u32 {
    let names = CallNames { tier, model, upstream: Some((model, Endpoint::Chat)) };
    worker.call(names, &CallReport { took: 1, ..CallReport::default() }, &[])
}

fn page(control: &ControlCells) -> String {
    let name = |kind: &'static str| move |n: u32| (n, format!("{kind}{n}"));
    let labels = Labels {
        routes: [].into(),
        tiers: (1..=600).map(name("t")).collect(),
        models: (1..=600).map(name("m")).collect(),
        calls: (1..=600).map(|n| (n, (format!("m{n}"), "p".to_owned(), "u".to_owned()))).collect(),
        consumers: [].into(),
        upstreams: [].into(),
    };
    metrics::page(control, &labels).unwrap()
}

fn completed(page: &str, tier: &str, model: &str) -> Option<u64> {
    let line = format!("aigw_model_requests_total{{tier=\"{tier}\",model=\"{model}\",outcome=\"completed\"}} ");
    page.lines().find_map(|own| own.strip_prefix(&line)?.parse().ok())
}

#[test]
fn rows_exist_for_pairs_that_were_called() {
    let folder = Folder::new();
    let control = folder.control();
    rosters::make_room(&control, PAIRS).unwrap();
    let workers = [folder.worker(), folder.worker()];
    for n in 0..40 {
        call(&workers[n % 2], 7, 9);
    }
    call(&workers[0], 600, 600);
    assert_eq!(call(&workers[1], 600, 600), 2, "the row that the other worker claimed");
    let page = page(&control);
    let shown = [completed(&page, "t7", "m9"), completed(&page, "t600", "m600"), completed(&page, "t7", "m8")];
    assert_eq!(shown, [Some(40), Some(2), None]);
    let durations = "gen_ai_server_request_duration_seconds_count{";
    assert_eq!(page.lines().filter(|line| line.starts_with(durations)).count(), 2);
    assert!(folder.bytes() < 40 << 20, "{} bytes", folder.bytes());
}

#[test]
fn calls_without_a_free_row_are_counted_together() {
    let folder = Folder::new();
    let control = folder.control();
    let two = Highest { series: 2, calls: 2, ..PAIRS };
    rosters::make_room(&control, two).unwrap();
    let worker = folder.worker();
    let rows: Vec<u32> = (1..=3).map(|model| call(&worker, 1, model)).collect();
    assert_eq!((rows, completed(&page(&control), "", "")), (vec![1, 2, 0], Some(1)));
    rosters::make_room(&control, two).unwrap();
    assert_eq!((call(&worker, 1, 3), call(&folder.worker(), 1, 2)), (3, 2));
}

#[test]
fn rows_of_an_earlier_version_keep_their_counts() {
    let folder = Folder::new();
    let control = folder.control();
    assert!(!rosters::is_open(&control));
    let worker = folder.worker();
    assert_eq!(call(&worker, 1, 1), 0, "no row is claimed before those of the earlier version are known");
    rosters::adopt(&control, &[(1, 1, 3), (2, 1, 1)], &[(1, 1, 2)]).unwrap();
    rosters::make_room(&control, PAIRS).unwrap();
    assert!(rosters::is_open(&control));
    assert_eq!([(1, 1), (2, 1), (9, 9)].map(|(tier, model)| call(&worker, tier, model)), [3, 1, 4]);
}
