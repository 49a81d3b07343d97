//! Measures CPU time of the benchmark's thread. On a shared machine wall-clock time also measures the other users.

use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of the measuring thread.
pub struct CpuTime;

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        now()
    }

    fn end(&self, start: Duration) -> Duration {
        now().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Few samples: the machine's noise exceeds the error of the mean.
pub fn config() -> Criterion<CpuTime> {
    let (warm_up, measured) = (Duration::from_millis(500), Duration::from_secs(1));
    Criterion::default().with_measurement(CpuTime).warm_up_time(warm_up).measurement_time(measured).sample_size(50)
}
