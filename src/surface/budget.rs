//! The take of a call of a model: from all limits at once, with the amounts that its budgets can grant.
//!
//! In: a body that passed the gates, and the checks of its tier. Out: the permit, the call's [`Charge`], and the output cap of its
//! budgets. A tier without budgets and ceilings of one call costs nothing here: nothing is counted before the call. Elsewhere the body's bytes
//! bound the input where the budgets are ample; near a boundary its tokens are counted. Of two requests that see the same room one
//! may lose it: that one looks again.

use std::sync::Arc;

use crate::accept::openai::{Asked, Endpoint, IncludeUsage};
use crate::admit::reserve::{Reservation, Room, Wish};
use crate::admit::{Admitter, Check, NotTaken, Permit, refused};
use crate::cells::CounterSpace;
use crate::forward::Limits;
use crate::in_force::PreparedModel;
use crate::limits::Demand;
use crate::price::dollars;
use crate::refusal::{Reason, Refusal};
use crate::settle::Charge;
use crate::snapshot::Tier;
use crate::stream::gauge::Gauge;
use crate::stream::sse::Bound;
use crate::tokens::TokenCounter;
use crate::units::{Moment, RequestId};

/// Looks before a request whose room others take each time is refused.
const LOOKS: usize = 4;

/// A call that was taken.
pub(super) struct Taken<P: CounterSpace> {
    pub(super) permit: Permit<P>,
    pub(super) charge: Charge,
    /// The output caps of each choice to send. The tier's is the one that the budgets grant, where that is below the others.
    pub(super) limits: Limits,
    /// The reservation has the count of the input, not a bound.
    pub(super) exact: bool,
}

/// A call to take.
pub(super) struct Ask<'a> {
    pub(super) tier: &'a Tier,
    pub(super) asked: &'a Asked,
    pub(super) endpoint: Endpoint,
    pub(super) limits: Limits,
    pub(super) model: &'a PreparedModel,
    /// Bytes of the body.
    pub(super) body: u64,
    pub(super) now: Moment,
    pub(super) id: RequestId,
}

/// A bound of the input.
struct Input {
    tokens: u64,
    /// It was counted.
    exact: bool,
}

/// The reservations of a call by the counters as they are.
struct Reserved {
    /// From the budgets that refuse.
    enforced: Reservation,
    /// From all budgets, as if those in shadow mode refused, too.
    all: Reservation,
}

/// Why a call was not taken.
pub(super) enum Refused {
    /// By a limit.
    Limits(NotTaken),
    /// By a ceiling of one call.
    Ceiling(Box<Refusal>),
}

impl From<NotTaken> for Refused {
    fn from(why: NotTaken) -> Self {
        Self::Limits(why)
    }
}

impl Refused {
    /// The refusal, in the words of its limit or of its ceiling.
    pub(super) fn refusal(self, tier: &Tier, checks: &[Check], now: Moment, id: RequestId) -> Refusal {
        match self {
            Self::Limits(why) => refused::openai(why, tier, checks, now, id),
            Self::Ceiling(refusal) => *refusal,
        }
    }
}

impl Ask<'_> {
    /// Takes from all limits. `rough` bounds the input by its bytes, `exact` counts it: at most once, and only near a boundary.
    pub(super) fn take<P: CounterSpace>(
        &self,
        admitter: &Admitter<P>,
        checks: &mut [Check],
        rough: impl FnOnce() -> u64,
        exact: impl Fn() -> u64,
    ) -> Result<Taken<P>, Refused> {
        if !self.is_bounded(checks.iter()) {
            let demand = Demand { body: self.body, rows: self.rows(), ..Demand::default() };
            let permit = admitter.take(checks, &demand, self.now, self.id)?;
            let Wish { choices, cap, .. } = self.wish(0);
            let most_output = u64::from(choices) * u64::from(cap.unwrap_or_default());
            let charge = Charge::without_budget(self.tier.price.clone(), most_output);
            return Ok(Taken { permit, charge, limits: self.limits, exact: false });
        }
        let mut input = Input { tokens: rough(), exact: false };
        let mut looks = 0;
        loop {
            looks += 1;
            let reserved = self.reserve(admitter, checks, &mut input, &exact)?;
            let Reserved { enforced: own, all } = reserved;
            let (bound, shadow) = (own.amounts(), all.amounts());
            let demand = Demand { body: self.body, bound, shadow, rows: self.rows() };
            let fitted = self.fits(enforced(checks), &own);
            match admitter.take(checks, &demand, self.now, self.id) {
                Ok(permit) => {
                    // The reservation counts on the cap, so the upstream hears of it, also where nobody but the model has one.
                    let said = if self.is_bounded(enforced(checks)) { self.limits.smaller() } else { self.limits.tier };
                    let limits = Limits { tier: own.cap.or(said), ..self.limits };
                    let charge = Charge::new(self.tier.price.clone(), own);
                    return Ok(Taken { permit, charge, limits, exact: input.exact });
                }
                Err(NotTaken::Exceeded(_)) if fitted && looks < LOOKS => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Most rows in the ledger: one for each upstream that may answer.
    fn rows(&self) -> u32 {
        u32::try_from(self.model.targets.len()).unwrap_or(u32::MAX)
    }

    /// Whether a ceiling of the tier, or one of these checks, bounds the call's tokens or money.
    fn is_bounded<'c>(&self, mut checks: impl Iterator<Item = &'c Check>) -> bool {
        self.tier.has_ceilings() || checks.any(|check| check.facts().sized)
    }

    /// The amounts to take by the counters as they are.
    fn reserve<P: CounterSpace>(
        &self,
        admitter: &Admitter<P>,
        checks: &mut [Check],
        input: &mut Input,
        exact: impl Fn() -> u64,
    ) -> Result<Reserved, Refused> {
        // A request that no limit of any kind lets pass is not counted.
        admitter.peek(checks, &Demand { body: self.body, ..Demand::default() }, self.now)?;
        let mut reserved = self.reserved(checks, input.tokens);
        // Where all budgets have so much left, a bound by bytes is enough.
        let ample = reserved.all.cap.is_none()
            && self.fits(checks.iter(), &reserved.all)
            && self.ceilings(&reserved.enforced).is_ok();
        if !input.exact && !ample {
            *input = Input { tokens: exact().min(input.tokens), exact: true };
            reserved = self.reserved(checks, input.tokens);
        }
        self.ceilings(&reserved.enforced).map_err(|refusal| Refused::Ceiling(Box::new(refusal)))?;
        Ok(reserved)
    }

    fn reserved(&self, checks: &[Check], input: u64) -> Reserved {
        let enforced = self.reserve_from(enforced(checks), input);
        let shadows = checks.iter().any(|check| check.shadow && check.facts().sized);
        Reserved { enforced, all: if shadows { self.reserve_from(checks.iter(), input) } else { enforced } }
    }

    fn reserve_from<'c>(&self, checks: impl Iterator<Item = &'c Check> + Clone, input: u64) -> Reservation {
        let rests = checks.clone().filter(|check| !check.refills()).filter_map(|check| room(check, check.left()));
        let buckets = checks.filter(|check| check.refills()).filter_map(|check| room(check, check.facts().limit));
        self.wish(input).reserve(self.tier.price.as_ref(), rests.chain(self.most_spend()), buckets)
    }

    fn wish(&self, input: u64) -> Wish {
        let Asked { choices, stream, .. } = *self.asked;
        let cap = cap(self.asked, self.limits);
        // An upstream that hides output may reach the cap before it shows a token.
        let chunks = stream && !self.model.may_hide_output(self.asked.reasons);
        Wish { input, choices: if self.endpoint.generates() { choices } else { 0 }, cap, chunks }
    }

    /// Whether a reservation fits where these budgets stand.
    fn fits<'c>(&self, checks: impl Iterator<Item = &'c Check>, reserved: &Reservation) -> bool {
        let rooms = checks.filter_map(|check| room(check, check.left()));
        rooms.chain(self.most_spend()).all(|room| room.holds(reserved))
    }

    fn most_spend(&self) -> Option<Room> {
        self.tier.request_max_spend.map(Room::Spend)
    }

    /// Refuses a reservation above a ceiling of one call.
    fn ceilings(&self, reserved: &Reservation) -> Result<(), Refusal> {
        let name = &self.tier.name;
        if let Some(most) = self.tier.prompt_max_tokens
            && reserved.input > u64::from(most)
        {
            let input = reserved.input;
            let message = format!(
                "The prompt has {input} tokens; tier '{name}' allows {most} in one request. Send a shorter prompt."
            );
            return Err(Refusal::because(Reason::PromptTooLong, message).about(self.endpoint.input_member()));
        }
        if let Some(most) = self.tier.request_max_spend
            && reserved.spend > most
        {
            let message = format!(
                "The request may cost {} USD; tier '{name}' allows {} USD for one request. Send a shorter prompt, or ask for fewer choices.",
                dollars(reserved.spend),
                dollars(most)
            );
            return Err(Refusal::because(Reason::RequestTooDear, message));
        }
        Ok(())
    }
}

/// The count of a stream, and its bound by the call's budgets. `limits`: those of [`Taken`]. `None`: it is no stream.
pub(super) fn bound(
    endpoint: Endpoint,
    asked: &Asked,
    charge: &Charge,
    limits: Limits,
    counter: &Arc<dyn TokenCounter>,
) -> Option<Bound> {
    if !asked.stream {
        return None;
    }
    let held = if charge.has_budget() { charge.held().output_tokens } else { u64::MAX };
    let gauge = Gauge::new(Arc::clone(counter), held, asked.choices, cap(asked, limits));
    let wants_usage = asked.include_usage == IncludeUsage::Yes;
    Some(Bound { gauge, chat: endpoint == Endpoint::Chat, wants_usage })
}

/// Most output tokens of each choice, by the caller and these limits.
fn cap(asked: &Asked, limits: Limits) -> Option<u32> {
    let own = [&asked.max_tokens, &asked.max_completion_tokens].into_iter().flatten().filter_map(|cap| cap.tokens);
    own.chain(limits.smaller()).min()
}

fn enforced(checks: &[Check]) -> impl Iterator<Item = &Check> + Clone {
    checks.iter().filter(|check| !check.shadow)
}

/// So much room in a budget; `None`: the limit counts something else.
fn room(check: &Check, amount: u64) -> Option<Room> {
    match check.facts().meter {
        "tokens" => Some(Room::Tokens(amount)),
        "input_tokens" => Some(Room::Input(amount)),
        "output_tokens" => Some(Room::Output(amount)),
        "spend" => Some(Room::Spend(amount)),
        _ => None,
    }
}
