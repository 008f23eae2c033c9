//! The arguments of `renkei pki`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use jiff::Timestamp;

use crate::pki::Usage;
use crate::pki::dev::{KeyAlgorithm, Kind, Variant};

const INIT_HELP: &str = "Examples:
  renkei pki init
  renkei pki init --dir region-a-pki
  renkei pki init --dir stranger-pki --foreign   # for certificates that are to be refused

The keys of both CAs lie in the folder in the clear. DEVELOPMENT ONLY: its certificates carry test
policy OIDs, which the production profiles never accept.";

const ISSUE_HELP: &str = "Examples:
  renkei pki issue --kind gateway --name hub --cn 'Hub' --dns localhost --ip 127.0.0.1
  renkei pki issue --kind institution --name hospital-a --cn 'Hospital A' --code 1312345678 \\
      --org 'Hospital A' --org-ja 甲病院
  renkei pki issue --kind person --name dr-yamada --cn 'Taro Yamada' --cn-ja '山田　太郎' \\
      --role 'Medical Doctor'
  renkei pki issue --kind institution --name bad --cn 'Bad' --variant signing-only";

const IMPORT_HELP: &str = "Examples:
  renkei pki import-crl crl-auth2.crl --into /etc/renkei/crls --profiles hpki \\
      --root mhlw-root.pem --ca medis-auth.pem
  renkei pki import-crl issuing.crl.pem --into certs-dev/crls --trust certs-dev

The list must be signed by one of these authorities and not be older than what the folder holds for
the same certificates. It is written whole; a node that runs takes it by itself within seconds.";

const CHECK_HELP: &str = "Examples:
  renkei pki check certs-dev/names/hub.cert.pem --usage server --trust certs-dev
  renkei pki check card.pem --usage person --profiles hpki \\
      --root mhlw-root.pem --ca medis-auth.pem --crl sarl.crl --crl crl-auth2.crl

Exit status 0 only if the certificate is accepted.";

/// Arguments of `renkei pki`.
#[derive(Debug, clap::Args)]
pub struct PkiArgs {
    #[command(subcommand)]
    pub(super) command: PkiCommand,
}

/// What `renkei pki` can do.
#[derive(Debug, clap::Subcommand)]
pub enum PkiCommand {
    /// Make a development PKI: root, issuing CA, revocation lists
    #[command(after_help = INIT_HELP)]
    Init(InitArgs),
    /// Issue a certificate of the development PKI
    #[command(after_help = ISSUE_HELP)]
    Issue(IssueArgs),
    /// Revoke a certificate of the development PKI and renew its revocation list
    #[command(after_help = "Example:\n  renkei pki revoke hospital-a")]
    Revoke(RevokeArgs),
    /// Renew the revocation lists of the development PKI, which live 96 hours
    #[command(after_help = "Example:\n  renkei pki refresh --dir certs-dev")]
    Refresh(RefreshArgs),
    /// Show what a certificate says: subject, policy, hcRole, pin
    #[command(after_help = "Example:\n  renkei pki show certs-dev/names/hub.cert.pem")]
    Show(ShowArgs),
    /// Verify a revocation list and put it in a node's folder of lists
    #[command(after_help = IMPORT_HELP)]
    ImportCrl(ImportArgs),
    /// Judge a certificate as the gateway would, and explain the verdict rule by rule
    #[command(after_help = CHECK_HELP)]
    Check(CheckArgs),
    /// Write the corpus of test certificates, chains and lists with the verdict expected of each
    #[command(
        after_help = "Example:\n  renkei pki corpus corpus/   # manifest.json says how to use it"
    )]
    Corpus(CorpusArgs),
}

/// Arguments of `pki corpus`.
#[derive(Debug, clap::Args)]
pub struct CorpusArgs {
    /// Folder to write to
    pub(super) dir: PathBuf,
}

/// Arguments of `pki init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// Folder of the PKI
    #[arg(long, default_value = "certs-dev")]
    pub(super) dir: PathBuf,
    /// Give its CAs other names, for certificates that are to be refused
    #[arg(long)]
    pub(super) foreign: bool,
}

/// Arguments of `pki issue`.
#[derive(Debug, clap::Args)]
pub struct IssueArgs {
    /// Folder of the PKI
    #[arg(long, default_value = "certs-dev")]
    pub(super) dir: PathBuf,
    /// What the certificate is for
    #[arg(long, value_parser = PossibleValuesParser::new(Kind::NAMES).try_map(|name| name.parse::<Kind>()))]
    pub(super) kind: Kind,
    /// File name, without ending
    #[arg(long)]
    pub(super) name: String,
    /// Common name: a system's name, or a person's in romaji
    #[arg(long)]
    pub(super) cn: String,
    /// A person's name in Japanese
    #[arg(long)]
    pub(super) cn_ja: Option<String>,
    /// 10-digit institution code (医療機関コード)
    #[arg(long)]
    pub(super) code: Option<String>,
    /// Institution's name in romaji
    #[arg(long)]
    pub(super) org: Option<String>,
    /// Institution's name in Japanese
    #[arg(long)]
    pub(super) org_ja: Option<String>,
    /// DNS name of a gateway; may be repeated
    #[arg(long)]
    pub(super) dns: Vec<String>,
    /// IP address of a gateway; may be repeated
    #[arg(long)]
    pub(super) ip: Vec<IpAddr>,
    /// hcRole, such as 'Medical Doctor'
    #[arg(long)]
    pub(super) role: Option<String>,
    /// Days of validity
    #[arg(long)]
    pub(super) days: Option<i64>,
    /// What is to be wrong with it
    #[arg(long, default_value = "ok", value_parser = PossibleValuesParser::new(Variant::NAMES).try_map(|name| name.parse::<Variant>()))]
    pub(super) variant: Variant,
    /// Kind of key
    #[arg(long, default_value = "p256", value_parser = PossibleValuesParser::new(KeyAlgorithm::NAMES).try_map(|name| name.parse::<KeyAlgorithm>()))]
    pub(super) key: KeyAlgorithm,
}

/// Arguments of `pki revoke`.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// Name or hexadecimal serial number
    pub(super) certificate: String,
    /// Folder of the PKI
    #[arg(long, default_value = "certs-dev")]
    pub(super) dir: PathBuf,
}

/// Arguments of `pki refresh`.
#[derive(Debug, clap::Args)]
pub struct RefreshArgs {
    /// Folder of the PKI
    #[arg(long, default_value = "certs-dev")]
    pub(super) dir: PathBuf,
}

/// Arguments of `pki show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Certificate or chain, PEM or DER
    pub(super) file: PathBuf,
}

/// Arguments of `pki import-crl`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The list, PEM or DER
    pub(super) file: PathBuf,
    /// The folder of lists, one of the node's `tls.crls`
    #[arg(long)]
    pub(super) into: PathBuf,
    /// Folder of a development PKI to trust
    #[arg(long, conflicts_with = "root")]
    pub(super) trust: Option<PathBuf>,
    /// Root certificate to trust; may be repeated
    #[arg(long)]
    pub(super) root: Vec<PathBuf>,
    /// CA certificate below the root; may be repeated
    #[arg(long)]
    pub(super) ca: Vec<PathBuf>,
    /// Set of profiles
    #[arg(long, default_value = "test", value_parser = ["test", "hpki"])]
    pub(super) profiles: String,
}

/// Arguments of `pki check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Certificate, or chain with it first; PEM or DER
    pub(super) certificate: PathBuf,
    /// More certificates that the peer would present
    #[arg(long)]
    pub(super) chain: Vec<PathBuf>,
    /// Revocation list, or folder of them; may be repeated
    #[arg(long)]
    pub(super) crl: Vec<PathBuf>,
    /// Folder of a development PKI to trust
    #[arg(long, conflicts_with = "root")]
    pub(super) trust: Option<PathBuf>,
    /// Root certificate to trust; may be repeated
    #[arg(long)]
    pub(super) root: Vec<PathBuf>,
    /// CA certificate below the root, whose revocation lists are given; may be repeated
    #[arg(long)]
    pub(super) ca: Vec<PathBuf>,
    /// What the certificate is presented for
    #[arg(long, default_value = "institution", value_parser = PossibleValuesParser::new(["institution", "server", "person"]).map(|name| usage(&name)))]
    pub(super) usage: Usage,
    /// Set of profiles
    #[arg(long, default_value = "test", value_parser = ["test", "hpki"])]
    pub(super) profiles: String,
    /// Hours past nextUpdate for which a revocation list still serves
    #[arg(long, default_value_t = 0)]
    pub(super) grace_hours: u32,
    /// Judge at this time (RFC 3339) instead of now
    #[arg(long)]
    pub(super) at: Option<Timestamp>,
}

fn usage(name: &str) -> Usage {
    match name {
        "server" => Usage::Server,
        "person" => Usage::Person,
        _ => Usage::Institution,
    }
}
