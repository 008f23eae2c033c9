//! The model in use: the shipped one, or one that `renkei identity learn` made and the configuration
//! names (`identity.model`).
//!
//! There is one for a process: what is indexed depends on it, as what is linked does.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::OnceLock;

use super::model::Model;

/// A model that was chosen, and what its files hash to.
struct Chosen {
    model: Model,
    mark: u64,
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

/// The model in use.
pub fn model() -> &'static Model {
    match CHOSEN.get() {
        Some(chosen) => &chosen.model,
        None => Model::shipped(),
    }
}

/// What tells a model that was chosen from others; `None` for the shipped one.
pub(crate) fn mark() -> Option<u64> {
    CHOSEN.get().map(|chosen| chosen.mark)
}

/// Uses the model that these texts are (`weights.txt`, `frequencies.txt`), and gives its version. To be
/// called before a node opens. Records that are there already are not matched again: what was linked
/// stays, with the version of the model that linked it.
///
/// # Errors
/// What is wrong, for the operator: a text that is not understood, a model that would link more easily
/// than the shipped one, or another that is in use already.
pub fn choose(weights: &str, frequencies: &str) -> Result<&'static str, String> {
    let model = read(weights, frequencies)?;
    let mut hasher = DefaultHasher::new();
    (weights, frequencies).hash(&mut hasher);
    let mark = hasher.finish();
    let chosen = CHOSEN.get_or_init(|| Chosen { model, mark });
    if chosen.mark == mark {
        Ok(&chosen.model.version)
    } else {
        Err("another model is in use by this process".to_owned())
    }
}

/// Reads a model that is fit to be used in place of the shipped one.
fn read(weights: &str, frequencies: &str) -> Result<Model, String> {
    let model = Model::parse(weights, frequencies).map_err(|error| error.to_string())?;
    let shipped = Model::shipped();
    let problem = if model.version.is_empty() || model.version == shipped.version {
        "needs a version of its own, since it is kept with every link"
    } else if model.link_bits.is_nan() || model.link_bits < shipped.link_bits {
        "links by fewer bits than the shipped model"
    } else if model.review_bits.is_nan() || model.review_bits >= model.link_bits {
        "must review by fewer bits than it links by"
    } else if !is_whole(&model, shipped) {
        "lacks levels, priors or names that the shipped model has, or has what is no probability"
    } else {
        return Ok(model);
    };
    Err(problem.to_owned())
}

/// Whether a model says something wherever the shipped one does.
fn is_whole(model: &Model, shipped: &Model) -> bool {
    // A line that is missing leaves log2 1.
    let said = |bits: &[f32]| bits.iter().any(|bits| bits.abs() > f32::EPSILON);
    let numbers = |bits: &[f32]| bits.iter().all(|bits| !bits.is_nan());
    let levels = model.weights.iter().flatten();
    let mut pairs = levels.zip(shipped.weights.iter().flatten());
    let whole = pairs.all(|(one, usual)| {
        let there = said(&one.matching) || !said(&usual.matching);
        there && numbers(&one.matching) && numbers(&one.other) && !one.namesake.is_nan()
    });
    whole && said(&model.prior) && numbers(&model.prior) && model.is_family("佐藤")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: &str = include_str!("data/weights.txt");
    const FREQUENCIES: &str = include_str!("data/frequencies.txt");

    #[test]
    fn a_model_in_place_of_the_shipped_one_is_whole_and_no_laxer() {
        let version = format!("version {}", Model::shipped().version);
        assert!(WEIGHTS.contains(&version));
        let own = WEIGHTS.replace(&version, "version own-1");
        let model = read(&own, FREQUENCIES).unwrap();
        assert_eq!(model.version, "own-1");
        let without = |begin: &str| {
            let lines = own.lines().filter(|line| !line.starts_with(begin));
            lines.collect::<Vec<_>>().join("\n")
        };
        for (why, weights) in [
            ("the same version", WEIGHTS.to_owned()),
            ("no version", without("version ")),
            ("laxer", own.replace("\nlink 11\n", "\nlink 10\n")),
            (
                "reviews less",
                own.replace("\nreview -1.5\n", "\nreview 11\n"),
            ),
            ("no priors", without("prior ")),
            ("a level less", without("policy policy ")),
            ("not a model", "family both\n".to_owned()),
        ] {
            assert!(read(&weights, FREQUENCIES).is_err(), "{why}");
        }
        assert!(read(&own, "").is_err(), "no names");
    }

    #[test]
    fn what_is_refused_is_not_used() {
        // The shipped model is not one of the node's own.
        assert!(choose(WEIGHTS, FREQUENCIES).is_err());
        assert_eq!(
            (mark(), &model().version),
            (None, &Model::shipped().version)
        );
    }
}
