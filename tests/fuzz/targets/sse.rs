//! Streams of server-sent events: an answer cut anywhere reads as the uncut one.
//!
//! Input: one byte for the seed of the cuts, then the stream. Checked: pieces do not change the bytes that pass or the usage,
//! nothing is added, and without `strip` everything passes as it came.

use aigw_core::stream::sse::{Events, Wish};

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let mut whole = Events::new(Wish::Strip);
    let mut once = whole.push(stream).unwrap_or_default();
    once.extend(whole.finish());
    assert!(once.len() <= stream.len(), "bytes were added");

    let mut events = Events::new(Wish::Strip);
    let mut untouched = Events::new(Wish::Watch);
    let mut pieces = Vec::new();
    let (mut rest, mut step) = (stream, usize::from(seed));
    while !rest.is_empty() {
        step = step * 31 + 7;
        let (piece, after) = rest.split_at(rest.len().min(step % 23));
        pieces.extend(events.push(piece).unwrap_or_default());
        assert!(untouched.push(piece).is_none(), "bytes were changed");
        rest = after;
        step %= 1009;
    }
    pieces.extend(events.finish());
    assert_eq!(pieces, once, "cuts changed the bytes");
    assert!(untouched.finish().is_empty(), "bytes were held back");
    assert_eq!(events.usage(), whole.usage(), "cuts changed the usage");
    assert_eq!(events.usage(), untouched.usage(), "the usage depends on who asked for it");
}
