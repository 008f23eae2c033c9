//! Data classes: the groups of data that patients' forms and policies speak of, and which of them a
//! document belongs to by its codes.

use std::fmt;

/// A group of data (`DataClass` of `consent.proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataClass {
    /// 基本情報.
    Demographics,
    /// 診療情報提供書, 退院時サマリー, 記録.
    Notes,
    /// 処方・調剤.
    Medication,
    /// アレルギー・禁忌.
    Allergy,
    /// 傷病名.
    Problem,
    /// 検査.
    Result,
    /// 画像.
    Imaging,
    /// 手術・処置.
    Procedure,
    /// 健診.
    Checkup,
    /// 介護.
    Care,
    /// 救急用サマリー.
    EmergencySummary,
    /// 精神科.
    Psychiatry,
    /// HIV・性感染症.
    SexualHealth,
    /// 遺伝子.
    Genetics,
    /// 周産期・中絶.
    Perinatal,
    /// 虐待・薬物依存.
    Abuse,
    /// The document's codes say nothing that is understood.
    Unclassified,
}

impl DataClass {
    /// Every class.
    pub const ALL: &'static [Self] = &[
        Self::Demographics,
        Self::Notes,
        Self::Medication,
        Self::Allergy,
        Self::Problem,
        Self::Result,
        Self::Imaging,
        Self::Procedure,
        Self::Checkup,
        Self::Care,
        Self::EmergencySummary,
        Self::Psychiatry,
        Self::SexualHealth,
        Self::Genetics,
        Self::Perinatal,
        Self::Abuse,
        Self::Unclassified,
    ];

    /// Its name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Demographics => "demographics",
            Self::Notes => "notes",
            Self::Medication => "medication",
            Self::Allergy => "allergy",
            Self::Problem => "problem",
            Self::Result => "result",
            Self::Imaging => "imaging",
            Self::Procedure => "procedure",
            Self::Checkup => "checkup",
            Self::Care => "care",
            Self::EmergencySummary => "emergency-summary",
            Self::Psychiatry => "psychiatry",
            Self::SexualHealth => "sexual-health",
            Self::Genetics => "genetics",
            Self::Perinatal => "perinatal",
            Self::Abuse => "abuse",
            Self::Unclassified => "unclassified",
        }
    }

    /// Whether a document can be found to be of it. Of the others there are items in documents of
    /// many kinds, but no kind of document, so a wish about them could not be kept.
    pub const fn is_of_documents(self) -> bool {
        !matches!(self, Self::Demographics | Self::Allergy | Self::Problem)
    }

    /// Whether a consent covers it only by naming it (`spec` japan §5.2: sensitive classes).
    pub const fn is_sensitive(self) -> bool {
        matches!(
            self,
            Self::Psychiatry | Self::SexualHealth | Self::Genetics | Self::Perinatal | Self::Abuse
        )
    }
}

/// A set of data classes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Classes(u32);

impl Classes {
    /// No class.
    pub const NONE: Self = Self(0);

    /// This set with one more.
    pub const fn with(self, class: DataClass) -> Self {
        Self(self.0 | 1 << class as u32)
    }

    /// Whether a class is in it.
    pub const fn has(self, class: DataClass) -> bool {
        self.0 & 1 << class as u32 != 0
    }

    /// Whether the two have one in common.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = DataClass> {
        let all = DataClass::ALL.iter().copied();
        all.filter(move |class| self.has(*class))
    }

    /// The sensitive ones of them.
    pub fn sensitive(self) -> Self {
        self.iter().filter(|class| class.is_sensitive()).collect()
    }

    /// The classes of a document.
    ///
    /// `kinds` are its type code and class code: the first that is known decides (the leaf is more
    /// telling than its parent). `department` is its practice setting; `labels` its confidentiality
    /// codes, among them those of HL7 v3 `ActCode` for sensitive information.
    pub fn of_document<'a>(
        kinds: [&str; 2],
        department: &str,
        labels: impl Iterator<Item = &'a str>,
    ) -> Self {
        let kind = kinds.into_iter().find_map(kind);
        let mut classes = Self::NONE.with(kind.unwrap_or(DataClass::Unclassified));
        if department == PSYCHIATRY {
            classes = classes.with(DataClass::Psychiatry);
        }
        labels.filter_map(label).fold(classes, Self::with)
    }
}

impl FromIterator<DataClass> for Classes {
    fn from_iter<T: IntoIterator<Item = DataClass>>(classes: T) -> Self {
        classes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(DataClass::name))
            .finish()
    }
}

/// 精神科 among the departments of SS-MIX2 (1.2.392.200250.2.2.2).
const PSYCHIATRY: &str = "02";

/// The class of a document code (`spec` japan §3.4: SS-MIX2 標準文書コード, LOINC).
fn kind(code: &str) -> Option<DataClass> {
    use DataClass as D;
    Some(match code {
        // 紹介状, 要約, 指示書, 記録, 計画書, 同意書, 指導書, 証明書, 意見書, カルテ, パス.
        "57133-1" | "Z0002" | "18842-5" | "34746-8" | "69730-0" | "74213-0" | "55115-0"
        | "57830-2" | "42348-3" | "34109-9" | "11506-3" | "28623-7" | "34108-1" | "34112-3"
        | "34129-7" | "75500-9" | "Z0001" | "34133-9" | "74166-0" | "56447-6" | "59772-4"
        | "60281-3" | "59284-0" | "57016-8" | "61358-8" | "89428-7" | "77602-1" | "34895-3"
        | "64299-1" | "70004-7" | "64297-5" | "11488-4" | "11503-0" | "78454-6" => D::Notes,
        "60591-5" => D::EmergencySummary,
        "57833-6" | "52063-5" | "57829-4" | "57831-0" | "64288-4" | "34821-9" | "57828-6"
        | "78601-2" => D::Medication,
        "47045-0" | "11502-2" | "18725-2" | "11526-1" | "47526-9" | "59281-6" | "28010-7"
        | "18751-8" | "18746-8" | "19805-1" | "51896-9" | "32453-3" => D::Result,
        "72170-4" | "18748-4" | "18747-6" | "18755-9" | "18758-3" | "12132-7" => D::Imaging,
        "34874-8" | "34750-0" | "29749-9" | "11504-8" => D::Procedure,
        "53576-5" | "JPGCHKUP01" => D::Checkup,
        "18776-5" => D::Care,
        _ => return None,
    })
}

/// The class of a label of sensitive information (HL7 v3 `ActCode`, `InformationSensitivityPolicy`).
fn label(code: &str) -> Option<DataClass> {
    Some(match code {
        "PSY" | "PSYTHPN" | "MH" => DataClass::Psychiatry,
        "HIV" | "STD" | "SEX" => DataClass::SexualHealth,
        "GDIS" => DataClass::Genetics,
        "SDV" | "ETH" | "ETHUD" | "OPIOIDUD" | "SUD" | "VIO" => DataClass::Abuse,
        "PREGNANT" | "REPR" => DataClass::Perinatal,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leaf_decides_before_its_parent() {
        let of = |kinds| Classes::of_document(kinds, "", [].into_iter());
        assert!(of(["53576-5", "47045-0"]).has(DataClass::Checkup));
        assert!(!of(["53576-5", "47045-0"]).has(DataClass::Result));
        assert!(of(["unknown", "47045-0"]).has(DataClass::Result));
        assert!(of(["unknown", ""]).has(DataClass::Unclassified));
    }

    #[test]
    fn sensitive_labels_and_departments_are_classes() {
        let classes = Classes::of_document(["18842-5", ""], "02", ["N", "HIV"].into_iter());
        let names: Vec<_> = classes.sensitive().iter().map(DataClass::name).collect();
        assert_eq!(names, ["psychiatry", "sexual-health"]);
        assert!(
            Classes::of_document(["18842-5", ""], "01", ["R"].into_iter())
                .sensitive()
                .is_empty()
        );
    }

    /// Every kind of document there is a code of, and no other, can be asked for in a wish.
    #[test]
    fn wishes_about_classes_can_be_kept() {
        let source = include_str!("classes.rs");
        let kinds = source.split("fn kind(").nth(1).unwrap();
        let kinds = kinds.split("#[cfg(test)]").next().unwrap();
        for class in DataClass::ALL {
            let variant = format!("{class:?}");
            let found = kinds.contains(&format!("D::{variant},"))
                || kinds.contains(&format!("DataClass::{variant},"))
                || *class == DataClass::Unclassified;
            assert_eq!(found, class.is_of_documents(), "{variant}");
        }
    }

    #[test]
    fn names_are_those_of_the_schema() {
        for class in DataClass::ALL {
            let quoted = format!("\"{}\"", class.name());
            assert!(super::super::policy::SCHEMA.contains(&quoted), "{quoted}");
        }
    }
}
