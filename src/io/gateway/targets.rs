//! Stage `balance` for models: which upstream is asked, and which after it.
//!
//! In: the upstreams of a model with their weights, a request's number. Out: an order, and an attempt for each when its turn
//! comes, with the body and the key that this upstream shall get.

use crate::forward;
use crate::in_force::{InForce, UpstreamUse};
use crate::upstream::{Attempt, Others};
use aigw_core::accept::openai::{Asked, Endpoint};
use aigw_core::forward::openai::body as rewritten;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// The upstreams of a model that are still to be tried, each with the body it shall get.
pub(super) struct Targets {
    pub(super) in_force: Arc<InForce>,
    pub(super) model: usize,
    pub(super) order: Vec<usize>,
    pub(super) next: usize,
    pub(super) endpoint: Endpoint,
    pub(super) query: String,
    pub(super) headers: HeaderMap<HeaderValue>,
    pub(super) body: Bytes,
    pub(super) asked: Asked,
    /// Of the tier, of the model.
    pub(super) caps: (Option<u32>, Option<u32>),
}

impl Others for Targets {
    fn next(&mut self) -> Option<Attempt> {
        let index = *self.order.get(self.next)?;
        self.next += 1;
        let upstream = self.in_force.models.get(self.model)?.upstreams.get(index)?;
        let last = self.next == self.order.len();
        let mut headers = if last { std::mem::take(&mut self.headers) } else { self.headers.clone() };
        forward::address(&mut headers, &upstream.host, upstream.authorization.as_ref());
        let (tier_cap, model_cap) = self.caps;
        let body = rewritten(self.endpoint, &self.body, &self.asked, &upstream.model, tier_cap, model_cap)
            .map_or_else(|| self.body.clone(), Bytes::from);
        let mut target = format!("{}{}", upstream.path, self.endpoint.path());
        if !self.query.is_empty() {
            target.push('?');
            target.push_str(&self.query);
        }
        Some(Attempt { origin: Arc::clone(&upstream.origin), target, headers, body })
    }
}

/// The upstreams in the order in which they are tried: drawn by weight without putting back, those of weight 0 last.
pub(super) fn order(upstreams: &[UpstreamUse], seed: u64) -> Vec<usize> {
    let mut left: Vec<usize> = (0..upstreams.len()).collect();
    if left.len() < 2 {
        return left;
    }
    let mut drawn = Vec::with_capacity(left.len());
    let mut seed = seed;
    while left.len() > 1 {
        let total: u64 = left.iter().map(|&at| u64::from(upstreams[at].weight)).sum();
        // The request id's mixed counter, mixed again (SplitMix64): neighbours must not follow each other.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let mut point = if total == 0 { 0 } else { mixed % total };
        let chosen = left.iter().position(|&at| {
            let weight = u64::from(upstreams[at].weight);
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        });
        drawn.push(left.remove(chosen.unwrap_or(0)));
    }
    drawn.append(&mut left);
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Origin;

    fn upstream(weight: u32) -> UpstreamUse {
        UpstreamUse {
            origin: Arc::new(Origin { tls: false, verify: true, host: "127.0.0.1".into(), port: 1 }),
            host: "127.0.0.1:1".into(),
            path: "/v1".into(),
            model: "m".into(),
            weight,
            authorization: None,
        }
    }

    #[test]
    fn upstreams_are_drawn_by_weight_and_those_without_come_last() {
        let upstreams = [upstream(3), upstream(0), upstream(1)];
        let mut first = [0_u32; 3];
        for n in 0..40_000_u64 {
            let order = order(&upstreams, n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert_eq!((order.len(), order[2]), (3, 1));
            first[order[0]] += 1;
        }
        assert_eq!(first[1], 0);
        assert!((29_000..31_000).contains(&first[0]), "{first:?}");
        assert_eq!(order(&upstreams[..1], 7), [0]);
        assert_eq!(order(&[upstream(0), upstream(0)], 7).len(), 2);
    }
}
