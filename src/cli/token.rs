//! `renkei token`: the person's assertion, for other tools.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::client;
use super::connection::Connection;
use super::output::{Done, Output};

/// Print a signed assertion of the profile's person, good for a few minutes
#[derive(Args, Debug)]
#[command(
    long_about = "Print a signed assertion of the profile's person (compact JWS), good for a few \
        minutes. Other tools send it as gRPC metadata `renkei-assertion`, over a connection with the profile's \
        certificate.\n\n\
        A client profile is a TOML file; paths are relative to it:\n\n  \
        endpoint = \"https://gateway.example.jp:7443\"\n  \
        certificate = \"clinic.pem\"    # own certificate first, then its issuers\n  \
        key = \"clinic.key\"            # mode 600\n  \
        roots = [\"root.pem\"]\n  \
        intermediates = []\n  \
        crls = [\"crl\"]                # files or folders\n  \
        test_profile = false          # true: certificates of the development PKI\n  \
        server_pin = \"9f86d0…\"        # optional: SHA-256 of the node's public key\n  \
        community = \"urn:oid:1.2.3\"   # homeCommunityId of the node\n\n  \
        [person]\n  \
        subject = \"dr-sato\"\n  \
        role = \"Medical Doctor\"\n  \
        purpose = \"TREAT\"\n  \
        relation = \"treating\"\n  \
        institution = \"1310000001\"\n  \
        audience = [\"urn:oid:1.2.3\"]  # optional: homeCommunityIds; else `community`",
    after_help = "Examples:\n  \
        renkei token --as clinic.toml\n  \
        renkei token --as dr-sato.toml --presenter clinic.pem --one-time\n  \
        grpcurl -H \"renkei-assertion: $(renkei token --as clinic.toml)\" …"
)]
pub(crate) struct Token {
    #[command(flatten)]
    connection: Connection,
    /// For one call only; a node takes it once
    #[arg(long)]
    one_time: bool,
    /// Certificate of the system that will present it, if it is not the profile's own
    #[arg(long, value_name = "FILE")]
    presenter: Option<PathBuf>,
}

impl Token {
    pub(crate) fn run(&self, out: Output) -> Result<Done> {
        let presenter = self.presenter.as_deref().map(client::thumbprint);
        let presenter = presenter.transpose()?;
        let token = client::assertion(&self.connection.profile()?, presenter, self.one_time)?;
        out.object(&json!({ "assertion": token }))?;
        out.human(|text| text.line(token))?;
        Ok(Done::All)
    }
}
