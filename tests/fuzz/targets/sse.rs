//! Streams of server-sent events: an answer cut anywhere reads as the uncut one.
//!
//! Input: one byte for the seed of the cuts, then the stream. Checked: pieces do not change the bytes that pass or the usage,
//! nothing is added, and without `strip` everything passes as it came.

use aigw_core::stream::gauge::Unbounded;
use aigw_core::stream::sse::{Events, Wish};

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let mut whole = Events::new(Wish::Strip, None);
    let mut once = whole.push(stream, &mut Unbounded).unwrap_or_default();
    once.extend(whole.finish(&mut Unbounded));
    assert!(once.len() <= stream.len(), "bytes were added");

    let mut events = Events::new(Wish::Strip, None);
    let mut untouched = Events::new(Wish::Watch, None);
    let mut pieces = Vec::new();
    let (mut rest, mut step) = (stream, usize::from(seed));
    while !rest.is_empty() {
        step = step * 31 + 7;
        let (piece, after) = rest.split_at(rest.len().min(step % 23));
        pieces.extend(events.push(piece, &mut Unbounded).unwrap_or_default());
        assert!(untouched.push(piece, &mut Unbounded).is_none(), "bytes were changed");
        rest = after;
        step %= 1009;
    }
    pieces.extend(events.finish(&mut Unbounded));
    assert_eq!(pieces, once, "cuts changed the bytes");
    assert!(untouched.finish(&mut Unbounded).is_empty(), "bytes were held back");
    assert_eq!(events.usage(), whole.usage(), "cuts changed the usage");
    assert_eq!(events.usage(), untouched.usage(), "the usage depends on who asked for it");
}
