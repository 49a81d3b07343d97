//! The service tiers of upstreams: how fast, and at what price, an answer says that it was made.
//!
//! In: the word of an answer's `service_tier`. Out: its number. The numbers are in ledgers, so a number never changes its meaning. A word
//! that is not in the table counts as unsaid: its call has the whole price.

/// A service tier, by its number in ledgers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ServiceTier {
    /// The answer names none, or one that is not in the table.
    #[default]
    Unsaid = 0,
    /// OpenAI's usual one.
    Default = 1,
    /// Anthropic's usual one.
    Standard = 2,
    /// Groq's usual one.
    OnDemand = 3,
    /// Slower and cheaper.
    Flex = 4,
    /// Faster and dearer.
    Priority = 5,
    /// Of capacity that was bought.
    Scale = 6,
    /// Groq's fastest.
    Performance = 7,
    /// Some time within a day.
    Batch = 8,
}

/// The words of answers and of configuration files.
pub const SERVICE_TIERS: [(&str, ServiceTier); 8] = [
    ("default", ServiceTier::Default),
    ("standard", ServiceTier::Standard),
    ("on_demand", ServiceTier::OnDemand),
    ("flex", ServiceTier::Flex),
    ("priority", ServiceTier::Priority),
    ("scale", ServiceTier::Scale),
    ("performance", ServiceTier::Performance),
    ("batch", ServiceTier::Batch),
];

/// Bytes of the longest JSON string that can be a word of the table, with room for spaces that no server sends.
pub(crate) const LONGEST: usize = 32;

impl ServiceTier {
    /// Its word; `None` where the answer named none.
    pub fn name(self) -> Option<&'static str> {
        SERVICE_TIERS.iter().find(|(_, tier)| *tier == self).map(|(word, _)| *word)
    }

    /// Of a word.
    pub fn of_name(name: &str) -> Self {
        SERVICE_TIERS.iter().find(|(word, _)| *word == name).map_or(Self::Unsaid, |(_, tier)| *tier)
    }

    /// Of a JSON value: a string with a word of the table, else unsaid.
    pub fn of_json(json: &str) -> Self {
        let word = json.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        word.map_or(Self::Unsaid, Self::of_name)
    }

    /// Of a number of a ledger; one that this version does not know counts as unsaid.
    pub fn of_number(number: u8) -> Self {
        SERVICE_TIERS.iter().find(|(_, tier)| *tier as u8 == number).map_or(Self::Unsaid, |(_, tier)| *tier)
    }

    /// This one, or another where it is unsaid.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Unsaid { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_service_tiers_stay_as_ledgers_have_them() {
        let numbers: Vec<u8> = SERVICE_TIERS.iter().map(|(_, tier)| *tier as u8).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
        for (name, tier) in SERVICE_TIERS {
            assert_eq!(ServiceTier::of_name(name), tier);
            assert_eq!(ServiceTier::of_json(&format!(" \"{name}\"")), tier);
            assert_eq!(ServiceTier::of_number(tier as u8), tier);
        }
    }

    #[test]
    fn words_outside_the_table_are_unsaid() {
        for json in ["null", "\"turbo\"", "\"\"", "\"", "flex", "5", "{}", "\"Flex\""] {
            assert_eq!(ServiceTier::of_json(json), ServiceTier::Unsaid, "{json}");
        }
        assert_eq!((ServiceTier::of_number(0), ServiceTier::of_number(9)), (ServiceTier::Unsaid, ServiceTier::Unsaid));
        assert_eq!(ServiceTier::Flex.or(ServiceTier::Batch), ServiceTier::Flex);
        assert_eq!(ServiceTier::Unsaid.or(ServiceTier::Batch), ServiceTier::Batch);
    }
}
