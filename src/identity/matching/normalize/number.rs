//! Telephone numbers and insured-person numbers.

use super::{is_separator, nfkc};

/// A telephone number as a number: digits only, +81 and 0081 as 0; `None` if it has not 10 or 11
/// digits, or does not begin with 0, or is a filler (0000000000).
pub fn phone(text: &str) -> Option<u64> {
    let text = nfkc(text);
    let mut digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if text.trim_start().starts_with('+') {
        digits = format!("0{}", digits.strip_prefix("81")?.trim_start_matches('0'));
    } else if let Some(national) = digits.strip_prefix("0081") {
        digits = format!("0{national}");
    }
    let filler = digits
        .bytes()
        .skip(2)
        .all(|digit| Some(digit) == digits.bytes().last());
    if !matches!(digits.len(), 10 | 11) || !digits.starts_with('0') || filler {
        return None;
    }
    // The leading 0 is lost, but 10 and 11 digits must stay apart.
    let value: u64 = digits.parse().ok()?;
    Some(
        value
            + if digits.len() == 11 {
                100_000_000_000
            } else {
                0
            },
    )
}

/// Whether a number is one person's as a rule: 020, 060, 070, 080, 090 and 050, 11 digits.
pub fn is_mobile(phone: u64) -> bool {
    phone >= 100_000_000_000
}

/// A policy: insurer, symbol and number, folded (保険者番号・記号・番号).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyNumber {
    /// Insurer without leading zeros. For 後期高齢者 (39…) only law and prefecture: there the number
    /// is the person's and is kept on moves inside the prefecture, while the insurer follows the
    /// municipality.
    pub insurer: u32,
    /// Symbol, empty if none.
    pub symbol: Box<str>,
    /// Number without leading zeros.
    pub number: Box<str>,
}

impl PolicyNumber {
    /// Whether the number is one person's by itself (後期高齢者医療): there is no 枝番.
    pub fn is_personal(&self) -> bool {
        (3901..=3947).contains(&self.insurer)
    }
}

/// A policy's numbers; `None` if insurer or number is missing or makes no sense.
pub fn policy(insurer: &str, symbol: &str, number: &str) -> Option<PolicyNumber> {
    let insurer: String = nfkc(insurer).chars().filter(char::is_ascii_digit).collect();
    let insurer = insurer.trim_start_matches('0');
    let number = fold(number);
    let number = number.trim_start_matches('0');
    if insurer.len() > 8 || insurer.is_empty() || number.is_empty() {
        return None;
    }
    let personal = insurer.len() == 8 && insurer.starts_with("39");
    let significant = if personal { insurer.get(..4)? } else { insurer };
    Some(PolicyNumber {
        insurer: significant.parse().ok()?,
        symbol: if personal {
            "".into()
        } else {
            fold(symbol).trim_start_matches('0').into()
        },
        number: number.into(),
    })
}

fn fold(text: &str) -> String {
    nfkc(text)
        .chars()
        .filter(|c| c.is_alphanumeric() && !is_separator(*c))
        .flat_map(char::to_uppercase)
        .collect()
}

/// The check digit of insurer and institution numbers: weights 2, 1 from the right, digits of the
/// products added, 10 − (sum mod 10) (検証番号).
pub fn check_digit(body: &str) -> Option<u8> {
    let mut sum = 0u32;
    for (place, c) in body.chars().rev().enumerate() {
        let product = c.to_digit(10)? * if place % 2 == 0 { 2 } else { 1 };
        sum += product / 10 + product % 10;
    }
    u8::try_from((10 - sum % 10) % 10).ok()
}

/// Whether an insurer number (6 or 8 digits) ends in its check digit. A wrong one is worth a warning,
/// never a repair.
pub fn insurer_is_valid(insurer: &str) -> bool {
    let digits: String = nfkc(insurer).chars().filter(char::is_ascii_digit).collect();
    match (
        digits.len(),
        digits.split_at_checked(digits.len().saturating_sub(1)),
    ) {
        (6 | 8, Some((body, check))) => check.parse().ok() == check_digit(body),
        _ => false,
    }
}

/// A branch (枝番): two digits. Empty is not `00`: cards issued before 2021 have none.
pub fn branch(text: &str) -> Option<u8> {
    let digits: String = nfkc(text).chars().filter(char::is_ascii_digit).collect();
    match digits.len() {
        1 | 2 => digits.parse().ok(),
        _ => None,
    }
}

/// Whether a text is a My Number by form and check digit (12 digits). One in eleven of all 12-digit
/// numbers is so by chance: a reason to ask, not a proof.
pub fn looks_like_my_number(text: &str) -> bool {
    let digits: Vec<u32> = nfkc(text).chars().filter_map(|c| c.to_digit(10)).collect();
    let Some((check, body)) = digits.split_last() else {
        return false;
    };
    if body.len() != 11 {
        return false;
    }
    let weighted = body
        .iter()
        .rev()
        .zip(1..)
        .map(|(digit, n)| digit * if n <= 6 { n + 1 } else { n - 5 });
    let remainder = weighted.sum::<u32>() % 11;
    *check == if remainder <= 1 { 0 } else { 11 - remainder }
}
