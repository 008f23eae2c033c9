//! Kinds of documents with the codes that Japanese networks register them under (SS-MIX2 standard
//! document codes, JP-CLINS profiles), so that nobody need type them.

use clap::ValueEnum;

use crate::wire::pb::common::CodedValue;

const LOINC: &str = "2.16.840.1.113883.6.1";
const DOCUMENT_CODES: &str = "http://jpfhir.jp/fhir/core/CodeSystem/JP_DocumentCodes_CS";
/// formatCodes that are URIs of their own.
const URI: &str = "urn:ietf:rfc:3986";
const IHE_FORMATS: &str = "1.3.6.1.4.1.19376.1.2.3";

/// A kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// 診療情報提供書: referral
    Referral,
    /// 退院時サマリー: discharge summary
    Discharge,
    /// 健康診断結果報告書: health check
    Checkup,
    /// 処方箋: prescription
    Prescription,
    /// 検体検査報告書: laboratory report
    Laboratory,
    /// 医療的ケア情報: care, devices and whom to call, by family and doctor, for the emergency
    Care,
}

fn code(code: &str, system: &str, display: &str) -> CodedValue {
    CodedValue {
        code: code.to_owned(),
        system: system.to_owned(),
        display_name: display.to_owned(),
        ..CodedValue::default()
    }
}

impl Kind {
    /// typeCode.
    pub(crate) fn type_code(self) -> CodedValue {
        match self {
            Self::Referral => code("57133-1", LOINC, "診療情報提供書"),
            Self::Discharge => code("18842-5", LOINC, "退院時サマリー"),
            Self::Checkup => code("53576-5", LOINC, "健康診断結果報告書"),
            Self::Prescription => code("57833-6", LOINC, "処方箋"),
            Self::Laboratory => code("11502-2", LOINC, "検体検査報告書"),
            Self::Care => code("18776-5", LOINC, "医療的ケア情報"),
        }
    }

    /// classCode.
    pub(crate) fn class_code(self) -> CodedValue {
        match self {
            Self::Discharge => code("Z0002", DOCUMENT_CODES, "要約"),
            Self::Checkup | Self::Laboratory => code("47045-0", LOINC, "報告書"),
            Self::Care => code("56447-6", LOINC, "計画書"),
            Self::Referral | Self::Prescription => self.type_code(),
        }
    }

    /// formatCode for a media type, if there is a usual one.
    pub(crate) fn format_code(self, mime_type: &str) -> Option<CodedValue> {
        let fhir = match self {
            Self::Referral => "eReferral/StructureDefinition/JP_Bundle_eReferral",
            Self::Discharge => "eDischargeSummary/StructureDefinition/JP_Bundle_eDischargeSummary",
            Self::Checkup => "eCheckup/StructureDefinition/JP_Bundle_eCheckupGeneral",
            Self::Prescription => "ePrescription/StructureDefinition/JP_Bundle_ePrescriptionData",
            Self::Care if mime_type == "application/fhir+json" => {
                // No profile of its own is published: a document Bundle as base FHIR has it.
                let bundle = "http://hl7.org/fhir/StructureDefinition/Bundle";
                return Some(code(bundle, URI, "FHIR文書"));
            }
            Self::Care | Self::Laboratory => return mime_type_suffices(mime_type),
        };
        match (self, mime_type) {
            (_, "application/fhir+json") => Some(code(
                &format!("http://jpfhir.jp/fhir/{fhir}"),
                URI,
                "FHIR文書",
            )),
            (Self::Referral, "text/xml") => {
                Some(code("urn:jp:hl7j-cda-005", URI, "電子紹介状 CDA"))
            }
            _ => mime_type_suffices(mime_type),
        }
    }
}

/// The formatCode of what its media type describes.
pub(crate) fn mime_type_suffices(mime_type: &str) -> Option<CodedValue> {
    let plain =
        matches!(mime_type, "application/pdf" | "text/plain") || mime_type.starts_with("image/");
    let format = "urn:ihe:iti:xds:2017:mimeTypeSufficient";
    plain.then(|| code(format, IHE_FORMATS, "MIMEタイプで十分"))
}

/// The media type that a file name's ending tells.
pub(crate) fn mime_type(ending: &str) -> Option<&'static str> {
    Some(match ending.to_ascii_lowercase().as_str() {
        "json" => "application/fhir+json",
        "xml" | "cda" => "text/xml",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "dcm" => "application/dicom",
        _ => return None,
    })
}

/// How sensitive a document is, as XDS codes it.
pub(crate) fn confidentiality(letter: &str) -> CodedValue {
    code(letter, "2.16.840.1.113883.5.25", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_kind_and_media_type() {
        let format = |kind: Kind, mime| kind.format_code(mime).map(|code| code.code);
        assert_eq!(
            format(Kind::Referral, "text/xml").as_deref(),
            Some("urn:jp:hl7j-cda-005")
        );
        assert!(
            format(Kind::Discharge, "application/fhir+json")
                .unwrap()
                .ends_with("eDischargeSummary")
        );
        assert!(
            format(Kind::Checkup, "application/pdf")
                .unwrap()
                .ends_with("mimeTypeSufficient")
        );
        assert_eq!(format(Kind::Checkup, "text/xml"), None);
        let care = format(Kind::Care, "application/fhir+json");
        assert!(care.unwrap().ends_with("/Bundle"));
        assert_eq!(mime_type("PDF"), Some("application/pdf"));
    }
}
