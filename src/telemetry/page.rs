//! Samples of metrics, and the Prometheus page made of them (text format 0.0.4).
//!
//! In: metrics one by one, each followed by its samples. Out: text. The walk over the counters hands the same samples to
//! any [`Sink`], so a reader in the same process takes values and parses no text.

use core::fmt;
use std::fmt::Write as _;

use super::metric::Metric;

/// Takes metrics one by one, each followed by its samples.
pub trait Sink {
    /// A metric begins. A metric without samples is handed over, too.
    fn metric(&mut self, metric: &Metric);
    /// A sample of the metric that began last. `suffix`: empty, or `_bucket`, `_sum`, `_count` of a histogram.
    fn sample(&mut self, suffix: &'static str, labels: &[(&'static str, &str)], value: Value);
}

/// The value of a sample. Its text keeps the digits that the counter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Thousandths, always with three digits after the point.
    Thousandths(u64),
    /// A whole number of the given parts (1 or a million) of one, without trailing zeros.
    Parts(u64, u64),
}

impl Value {
    /// The nearest number.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // Prometheus' own numbers are these
    pub fn number(self) -> f64 {
        match self {
            Self::Whole(n) => n as f64,
            Self::Thousandths(n) => n as f64 / 1_000.0,
            Self::Parts(n, of) => n as f64 / of as f64,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Whole(n) => write!(f, "{n}"),
            Self::Thousandths(n) => write!(f, "{}.{:03}", n / 1_000, n % 1_000),
            Self::Parts(n, of) => {
                let (whole, rest) = (n / of, n % of);
                if rest == 0 {
                    return write!(f, "{whole}");
                }
                let digits = format!("{rest:06}");
                write!(f, "{whole}.{}", digits.trim_end_matches('0'))
            }
        }
    }
}

/// The page as it grows.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// The text, which ends with a line's end.
    #[must_use]
    pub fn text(self) -> String {
        self.text
    }
}

// Writing to a String cannot fail.
impl Sink for Page {
    fn metric(&mut self, metric: &Metric) {
        let Metric { name, kind, help, labels: _ } = metric;
        self.name = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
    }

    fn sample(&mut self, suffix: &'static str, labels: &[(&'static str, &str)], value: Value) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, Escaped(text));
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// A label's text: names come from operators, and from clients of the Admin API.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
