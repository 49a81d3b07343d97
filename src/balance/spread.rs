//! The order in which the targets of a service are tried for one request.
//!
//! In: the targets, the part of the request that chooses, its number, the moment. Out: indices. Equal parts lead to the same target for as
//! long as the targets stay, and a target that leaves moves only its own requests (rendezvous hashing: Thaler and Ravishankar, "Using
//! name-based mappings to increase hit rates", 1998; weights as in Schindelhauer and Schomaker, 2005). Targets that are out come last.

use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering;

use siphasher::sip::SipHasher13;

use super::order;
use super::target::{RouteTarget, ServiceTarget};
use crate::r#match::canonical;
use crate::request::Head;
use crate::snapshot::HashOn;
use crate::units::Moment;

/// The order for one request. `consumer`: the id of its consumer.
pub fn order_of(service: &ServiceTarget, head: &Head, consumer: Option<&[u8]>, now: Moment) -> Vec<usize> {
    let targets = &*service.targets;
    if targets.len() == 1 {
        return vec![0];
    }
    let part = service.hash.iter().find_map(|by| part(by, head, consumer));
    let mut order = match part {
        Some(part) => by_part(targets, &part),
        None => order::draw(targets.iter().map(|target| target.weight), head.id.0[1]),
    };
    if service.least_connections {
        order.sort_by_key(|&index| targets.get(index).map_or(u64::MAX, load));
    }
    order.sort_by_key(|&index| targets.get(index).is_none_or(|target| target.health.is_out(now)));
    order
}

/// Calls for the weight, this one included, in millionths.
fn load(target: &RouteTarget) -> u64 {
    (u64::from(target.calls.load(Ordering::Relaxed)) + 1) * 1_000_000 / u64::from(target.weight.max(1))
}

/// The bytes of the part, if the request has it.
fn part(by: &HashOn, head: &Head, consumer: Option<&[u8]>) -> Option<Vec<u8>> {
    match by {
        HashOn::Consumer => consumer.map(<[u8]>::to_vec),
        HashOn::Ip => head.peer.map(|peer| peer.ip().to_canonical().to_string().into_bytes()),
        HashOn::Path => Some(head.path.clone().into_bytes()),
        HashOn::Header(name) => head.headers.get(name).map(|value| value.as_bytes().to_vec()),
        HashOn::QueryArg(name) => head.query.split('&').find_map(|pair| {
            let (raw, value) = pair.split_once('=').unwrap_or((pair, ""));
            (*canonical::decode_argument(raw) == *name.as_bytes())
                .then(|| canonical::decode_argument(value).into_owned())
        }),
    }
}

fn by_part(targets: &[RouteTarget], part: &[u8]) -> Vec<usize> {
    let mut scores: Vec<(f64, usize)> =
        targets.iter().enumerate().map(|(index, target)| (score(target, part), index)).collect();
    scores.sort_by(|one, other| one.0.total_cmp(&other.0));
    scores.into_iter().map(|(_, index)| index).collect()
}

/// The lowest score gets the request: an exponential variate with the target's weight as its rate.
#[allow(clippy::cast_precision_loss)] // 53 bits
fn score(target: &RouteTarget, part: &[u8]) -> f64 {
    let mut hasher = SipHasher13::new();
    (&*target.origin.host, target.origin.port, part).hash(&mut hasher);
    let uniform = ((hasher.finish() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(target.weight.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::target::{Busy, origin};
    use super::*;
    use crate::snapshot::Scheme;
    use std::sync::Arc;

    fn targets(weights: &[(&str, u32)]) -> Vec<RouteTarget> {
        let target = |&(host, weight): &(&str, u32)| {
            let (origin, host) = origin(Scheme::Http, host, 80, true, None);
            RouteTarget { origin, host, weight, health: Arc::default(), calls: Arc::default() }
        };
        weights.iter().map(target).collect()
    }

    #[test]
    fn load_is_the_number_of_calls_for_the_weight() {
        let all = targets(&[("a.test", 1), ("b.test", 2)]);
        let busy: Vec<_> = (0..2).map(|_| Busy::at(&all[1])).collect();
        assert!(load(&all[0]) < load(&all[1]), "one of weight 1 against three halves");
        drop(busy);
        assert!(load(&all[0]) > load(&all[1]));
    }

    #[test]
    fn parts_spread_by_weight_and_stay_when_another_target_leaves() {
        let all = targets(&[("a.test", 1), ("b.test", 2), ("c.test", 1)]);
        let fewer = targets(&[("a.test", 1), ("b.test", 2)]);
        let mut first = [0_u32; 3];
        for n in 0..8_000_u32 {
            let part = n.to_le_bytes();
            let order = by_part(&all, &part);
            first[order[0]] += 1;
            assert_eq!(order, by_part(&all, &part));
            if order[0] != 2 {
                assert_eq!(by_part(&fewer, &part)[0], order[0], "only the requests of c.test move");
            }
        }
        assert!((1800..2200).contains(&first[0]) && (3700..4300).contains(&first[1]), "{first:?}");
    }
}
