//! A verdict explained check by check, in English and Japanese, for `renkei pki check`.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::judge::{Check, Observer, examine};
use super::trust::TrustStore;
use super::{Certified, Refusal, Usage};

/// How one check came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every rule of the check is kept.
    Kept,
    /// A rule is violated.
    Violated(Refusal),
    /// Not looked at, because an earlier failure left nothing to look at.
    NotReached,
}

/// One check: what it asks, in both languages, and how it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Stable name.
    pub name: &'static str,
    /// What must hold.
    pub english: &'static str,
    /// 何を満たすべきか.
    pub japanese: &'static str,
    /// How it came out.
    pub outcome: Outcome,
}

/// All checks in order, and the verdict [`super::judge()`] gives.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The checks.
    pub steps: Vec<Step>,
    /// The verdict: that of the first violated rule.
    pub verdict: Result<Certified, Refusal>,
}

/// Explains how `chain` is judged: unlike [`super::judge()`] it goes on after a violated rule, as
/// far as anything is left to look at.
pub fn explain(
    chain: &[CertificateDer<'_>],
    trust: &TrustStore,
    usage: Usage,
    now: Timestamp,
) -> Explanation {
    let mut seen = Notes(Vec::new());
    let verdict = examine(chain, trust, usage, now, &mut seen);
    let steps = CHECKS.iter().map(|(check, name, english, japanese)| {
        let noted = seen.0.iter().find(|(noted, _)| noted == check);
        let outcome = match noted {
            Some((_, None)) => Outcome::Kept,
            Some((_, Some(refusal))) => Outcome::Violated(refusal.clone()),
            None => Outcome::NotReached,
        };
        Step {
            name,
            english,
            japanese,
            outcome,
        }
    });
    Explanation {
        steps: steps.collect(),
        verdict,
    }
}

struct Notes(Vec<(Check, Option<Refusal>)>);

impl Observer for Notes {
    fn saw(&mut self, check: Check, outcome: Result<(), &Refusal>) -> bool {
        self.0.push((check, outcome.err().cloned()));
        true
    }
}

const CHECKS: [(Check, &str, &str, &str); 19] = [
    (
        Check::Form,
        "form",
        "a well-formed version 3 certificate within the size limits",
        "形式が正しい X.509 v3 証明書で、サイズ制限内であること",
    ),
    (
        Check::Algorithms,
        "algorithms",
        "signature algorithm and key size are accepted (no SHA-1, no MD5; RSA 2048 to 4096, P-256, P-384)",
        "署名アルゴリズムと鍵長が許容範囲であること(SHA-1・MD5 は不可、RSA 2048〜4096、P-256、P-384)",
    ),
    (
        Check::Extensions,
        "extensions",
        "no extension twice, no critical extension that is not processed",
        "拡張領域に重複がなく、処理できないクリティカル拡張がないこと",
    ),
    (
        Check::Validity,
        "validity",
        "valid now",
        "有効期間内であること",
    ),
    (
        Check::EndEntity,
        "end-entity",
        "an end-entity certificate, not a CA's",
        "認証局証明書ではなく、エンドエンティティ証明書であること",
    ),
    (
        Check::SigningCertificate,
        "signing-certificate",
        "an authentication certificate, not a signing certificate",
        "署名用証明書ではなく、認証用証明書であること",
    ),
    (
        Check::Subject,
        "subject",
        "subject readable and unambiguous",
        "主体者名が判読でき、一意であること",
    ),
    (
        Check::Path,
        "path",
        "a chain of valid signatures to a configured root",
        "設定された信頼点(ルート認証局)まで署名が連鎖すること",
    ),
    (
        Check::Authorities,
        "authorities",
        "every CA on the path may issue certificates for this use, is valid now and follows the profile",
        "経路上のすべての認証局が、この用途の証明書の発行権限を持ち、有効期間内で、プロファイルに従うこと",
    ),
    (
        Check::NameConstraints,
        "name-constraints",
        "names within the name constraints of the CAs",
        "名称が認証局の名前制約の範囲内であること",
    ),
    (
        Check::Policy,
        "policy",
        "an accepted certificate policy that holds along the whole path",
        "用途に応じた証明書ポリシ OID が経路全体で有効であること",
    ),
    (
        Check::Revocation,
        "revocation",
        "a fresh revocation list for every certificate of the path, and none of them revoked",
        "経路上の各証明書に有効な失効リスト(CRL/ARL)があり、失効していないこと",
    ),
    (
        Check::Critical,
        "critical",
        "keyUsage and certificatePolicies are present and critical",
        "keyUsage と certificatePolicies がクリティカルであること",
    ),
    (
        Check::KeyUsage,
        "key-usage",
        "keyUsage is what the profile says",
        "鍵使用目的(keyUsage)がプロファイルどおりであること",
    ),
    (
        Check::ExtendedKeyUsage,
        "extended-key-usage",
        "extendedKeyUsage allows this use",
        "拡張鍵使用目的(extendedKeyUsage)がこの用途を許すこと",
    ),
    (
        Check::HcRole,
        "hc-role",
        "hcRole well-formed, known and of the right kind",
        "hcRole の形式が正しく、既知の資格名で、証明書の種別に合うこと",
    ),
    (
        Check::ValidityLength,
        "validity-length",
        "validity no longer than the profile allows",
        "有効期間の長さがプロファイルの上限以内であること",
    ),
    (
        Check::SubjectComplete,
        "subject-complete",
        "subject has what the profile requires",
        "主体者名にプロファイルの求める属性がそろっていること",
    ),
    (
        Check::InstitutionCode,
        "institution-code",
        "the 10-digit institution code, where the profile requires it",
        "プロファイルが求める場合、10桁の医療機関コードがあること",
    ),
];
