//! The lines of the process log about a worker's ledger: each fault once, and its end.

use super::writer::{LedgerState, LedgerStatus};

/// The state of the log.
#[derive(Debug, Default)]
pub struct News {
    refuses: bool,
    failures: u64,
}

/// An event of the log, and its error if it has one.
pub type Line = (&'static str, Option<String>);

impl News {
    /// The lines that are due.
    pub fn of(&mut self, now: &LedgerStatus) -> Vec<Line> {
        let mut lines = Vec::new();
        let state = now.state();
        let refuses = state.refuses();
        if now.failures > std::mem::replace(&mut self.failures, now.failures) {
            lines.push(("ledger_file_failed", now.last_failure.clone()));
        }
        if refuses != std::mem::replace(&mut self.refuses, refuses) {
            let why = if state == LedgerState::Full { &now.room_error } else { &now.place_error };
            lines.push(if refuses { ("ledger_refuses", why.clone()) } else { ("ledger_admits", None) });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_told_once_and_its_end_too() {
        let well = LedgerStatus { room: 9, ..LedgerStatus::default() };
        let failed = LedgerStatus { failures: 2, last_failure: Some("a".into()), ..well.clone() };
        let gone = LedgerStatus { place_error: Some("b".into()), ..failed.clone() };
        let full = LedgerStatus { room: 0, room_error: Some("c".into()), ..failed.clone() };
        let mut news = News::default();
        assert_eq!(news.of(&well), []);
        assert_eq!(news.of(&failed), [("ledger_file_failed", Some("a".into()))]);
        assert_eq!(news.of(&gone), [("ledger_refuses", Some("b".into()))]);
        assert_eq!(news.of(&full), []);
        assert_eq!(news.of(&failed), [("ledger_admits", None)]);
        assert_eq!(news.of(&full), [("ledger_refuses", Some("c".into()))]);
    }
}
