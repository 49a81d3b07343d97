//! The order in which a model's targets are tried.
//!
//! In: the weights of the targets, a number of the request. Out: their indices, drawn by weight without putting back; those
//! of weight 0 come last. The same number gives the same order.

/// The order for one request.
pub fn draw(weights: impl ExactSizeIterator<Item = u32>, seed: u64) -> Vec<usize> {
    let count = weights.len();
    if count < 2 {
        return (0..count).collect();
    }
    let mut left: Vec<(usize, u64)> = weights.map(u64::from).enumerate().collect();
    let mut drawn = Vec::with_capacity(count);
    let mut seed = seed;
    while left.len() > 1 {
        let total: u64 = left.iter().map(|(_, weight)| weight).sum();
        // The request's number is a counter: SplitMix64 mixes it, so that neighbours get unrelated orders.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let mut point = if total == 0 { 0 } else { mixed % total };
        let chosen = left.iter().position(|&(_, weight)| {
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        });
        drawn.push(left.remove(chosen.unwrap_or(0)).0);
    }
    drawn.extend(left.into_iter().map(|(index, _)| index));
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draw_follows_weights_and_puts_zero_last() {
        let mut first = [0_u32; 3];
        for n in 0..40_000_u64 {
            let order = draw([3, 0, 1].into_iter(), n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert_eq!((order.len(), order[2]), (3, 1));
            first[order[0]] += 1;
        }
        assert_eq!(first[1], 0);
        assert!((29_000..31_000).contains(&first[0]), "{first:?}");
        assert_eq!(draw([3].into_iter(), 7), [0]);
        assert_eq!(draw([0, 0].into_iter(), 7).len(), 2);
    }
}
