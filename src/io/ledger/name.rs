//! Names of the ledger's files: `<life>-<slot>-<number>.segment`, with a life of 16 hex digits, two digits of a slot, and eight of a
//! number. A file that is being made ends in `.new`; readers pass over it.

use std::fmt::{Display, Formatter, Result};

const SEGMENT: &str = ".segment";
const DRAFT: &str = ".new";

/// Which segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Start of the process that writes it: unix nanoseconds.
    pub life: u64,
    /// Its worker's slot; 99 for the control process.
    pub slot: u8,
    /// Its number among the segments of its life and slot, from 0 on.
    pub number: u32,
}

impl SegmentName {
    /// The segment that a file's name names.
    pub fn parse(name: &str) -> Option<Self> {
        Self::of(name.strip_suffix(SEGMENT)?)
    }

    /// The segment that a file under way will be.
    pub(super) fn parse_draft(name: &str) -> Option<Self> {
        Self::of(name.strip_suffix(DRAFT)?)
    }

    fn of(stem: &str) -> Option<Self> {
        let mut parts = stem.split('-');
        let (life, slot, number) = (parts.next()?, parts.next()?, parts.next()?);
        let name =
            Self { life: u64::from_str_radix(life, 16).ok()?, slot: slot.parse().ok()?, number: number.parse().ok()? };
        (name.stem() == stem).then_some(name)
    }

    fn stem(&self) -> String {
        format!("{:016x}-{:02}-{:08}", self.life, self.slot, self.number)
    }

    /// The name of the file while it is being made.
    pub(super) fn draft(&self) -> String {
        self.stem() + DRAFT
    }

    /// The segment behind it.
    pub(super) fn next(self) -> Option<Self> {
        Some(Self { number: self.number.checked_add(1)?, ..self })
    }
}

/// The file's name.
impl Display for SegmentName {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        formatter.write_str(&self.stem())?;
        formatter.write_str(SEGMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reverses_display_and_refuses_other_spellings() {
        let name = SegmentName { life: 0x18a0_0000_0000_0001, slot: 7, number: 42 };
        assert_eq!(name.to_string(), "18a0000000000001-07-00000042.segment");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        assert_eq!(SegmentName::parse_draft(&name.draft()), Some(name));
        for other in [
            "18a0000000000001-7-00000042.segment",
            "18A0000000000001-07-00000042.segment",
            "18a0000000000001-07-42.segment",
            "18a0000000000001-07-00000042-1.segment",
            "18a0000000000001-07-+0000042.segment",
            "18a0000000000001-07-00000042.new",
            "ledger.db",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }
}
