//! Japanese identifiers with their check digits (modulus 10, weights 2-1, digits summed).

/// OID root of the patient number inside one institution; "1" and the ten-digit code follow.
pub const PATIENT_ID_ROOT: &str = "1.2.392.100495.20.3.51.1";

/// The check digit for `body`: from the right weights 2, 1, 2, 1…, digits of a product summed.
///
/// Anything that is not a decimal digit counts as zero.
#[must_use]
pub fn check_digit(body: &str) -> u32 {
    let sum: u32 = body
        .chars()
        .rev()
        .map(|digit| digit.to_digit(10).unwrap_or(0))
        .zip([2, 1].into_iter().cycle())
        .map(|(digit, weight)| digit * weight)
        .map(|product| product / 10 + product % 10)
        .sum();
    (10 - sum % 10) % 10
}

/// Whether `number` is all digits and its last one is right for those before it.
#[must_use]
pub fn check_digit_is_valid(number: &str) -> bool {
    let digits = number.len() > 1 && number.bytes().all(|byte| byte.is_ascii_digit());
    digits
        && number.char_indices().last().is_some_and(|(at, last)| {
            number
                .get(..at)
                .is_some_and(|body| last.to_digit(10) == Some(check_digit(body)))
        })
}

/// `body` with its check digit appended.
pub(super) fn with_check_digit(body: &str) -> String {
    format!("{body}{}", check_digit(body))
}

/// A 医療機関コード of ten digits: prefecture, fee table, municipality, number, check digit.
pub(super) fn institution_code(
    prefecture: u8,
    fee_table: u8,
    city: usize,
    number: usize,
) -> String {
    with_check_digit(&format!("{prefecture:02}{fee_table}{city:02}{number:04}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_agree_with_known_numbers() {
        for good in [
            "0110113719",
            "3618010015",
            "2710001237",
            "33120015",
            "39131156",
            "138057",
        ] {
            assert!(check_digit_is_valid(good), "{good}");
        }
        for bad in [
            "1312345670",
            "",
            "7",
            "131234567A",
            "138058",
            "１３８０５７",
        ] {
            assert!(!check_digit_is_valid(bad), "{bad}");
        }
        assert_eq!(institution_code(20, 1, 1, 17).len(), 10);
    }
}
