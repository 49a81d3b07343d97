//! Names that differ from ours only in the letters' case.
//!
//! Go's JSON reader takes `MODEL` for `model`, and the last of both wins; other readers have a switch for it. An upstream
//! that gets both could believe another one than the gateway did.

/// The name in `known` that equals `name` when case is ignored, as in Go's JSON reader: ASCII, the Kelvin sign, the long s.
/// `known` is lower-case ASCII and does not hold `name` itself.
pub(super) fn in_another_case(name: &str, known: &[&'static str]) -> Option<&'static str> {
    const LONGEST: usize = 64;
    if name.len() > LONGEST || !name.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        return None;
    }
    let folded = |letter: char| match letter {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    };
    known.iter().copied().find(|known| name.chars().map(folded).eq(known.chars()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_fold_as_go_folds_them() {
        const KNOWN: &[&str] = &["n", "model", "max_tokens", "stream_options"];
        for (name, known) in [
            ("N", "n"),
            ("MODEL", "model"),
            ("mOdel", "model"),
            ("max_to\u{212a}ens", "max_tokens"),
            ("MAX_TO\u{212a}EN\u{17f}", "max_tokens"),
            ("\u{17f}tream_options", "stream_options"),
        ] {
            assert_eq!(in_another_case(name, KNOWN), Some(known), "{name}");
        }
        for name in ["", "model", "Models", "Mode", "\u{212a}", "mod\u{e9}l", "MODEL ", &"M".repeat(1_000_000)] {
            assert_eq!(in_another_case(name, KNOWN), None, "{name:.20}");
        }
    }
}
