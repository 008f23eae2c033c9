//! Why a call is made, by whom, and how the caller stands to the patient.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a code of one of these closed sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a known code")]
pub struct UnknownCode;

macro_rules! codes {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $vdoc:literal])+ $variant:ident = $code:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[doc = $vdoc])+ $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code on the wire.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownCode;

            fn from_str(text: &str) -> Result<Self, UnknownCode> {
                match text { $($code => Ok(Self::$variant),)+ _ => Err(UnknownCode) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.code())
            }
        }
    };
}

codes! {
    /// Purpose of use (`spec` japan §5.4; XUA `PurposeOfUse`, HL7 v3).
    PurposeOfUse {
        /// 診療・服薬指導: treatment under the network's consent.
        Treatment = "TREAT",
        /// 救急時 (同意困難): emergency treatment where consent cannot be had.
        Emergency = "ETREAT",
        /// 医療介護連携: coordination with care offices.
        CareCoordination = "COORD",
        /// 本人・代理人の閲覧: the person's own request.
        PatientRequest = "PATRQT",
        /// 請求・資格確認: payment and eligibility.
        Payment = "HPAYMT",
        /// 運用・監査・突合作業: operation, audit, linkage work.
        Operations = "HOPERAT",
        /// 研究: research on pseudonymised or anonymised data.
        Research = "HRESCH",
        /// 感染症・がん登録・災害: public health by statute.
        PublicHealth = "PUBHLTH",
        /// 災害時モード: declared disaster.
        Disaster = "DISASTER",
    }
}

codes! {
    /// The role a person acts in, as asserted by certificate or institution (`spec` japan §1.9, §5.4).
    PersonRole {
        /// 医師.
        Physician = "Medical Doctor",
        /// 歯科医師.
        Dentist = "Dentist",
        /// 薬剤師.
        Pharmacist = "Pharmacist",
        /// 看護師.
        Nurse = "General Nurse",
        /// 保健師.
        PublicHealthNurse = "Public Health Nurse",
        /// 助産師.
        Midwife = "Midwife",
        /// 救急救命士.
        EmergencyTechnician = "Emergency Medical Technician",
        /// 臨床検査技師.
        LaboratoryTechnologist = "Medical Technologist",
        /// 診療放射線技師.
        Radiographer = "Radiological Technologist",
        /// 介護福祉士 and other care professions.
        CareWorker = "Certified Care Worker",
        /// 事務: clerks; identification and eligibility only (no HPKI role exists).
        Clerk = "Clerk",
        /// 個人情報保護担当: reads the institution's own audit and reviews break-glass.
        PrivacyOfficer = "Privacy Officer",
        /// 名寄せ担当: decides doubtful links.
        DataSteward = "Data Steward",
        /// A system acting by itself: feeds, gateways, monitoring.
        System = "System",
        /// The node's operator.
        Operator = "Operator",
    }
}

codes! {
    /// How the caller stands to the patient.
    Relation {
        /// The patient is under treatment at the calling institution now.
        Treating = "treating",
        /// The patient was referred to the calling institution.
        Referred = "referred",
        /// An emergency patient brought to the calling institution.
        EmergencyPatient = "emergency",
        /// The caller is the patient or their representative.
        Myself = "self",
        /// No relation is claimed.
        None = "none",
    }
}
