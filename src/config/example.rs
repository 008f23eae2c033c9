//! Example configurations: the files under `deploy/`, which tests parse.

/// A role an example exists for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExampleRole {
    /// The national hub.
    Hub,
    /// A regional gateway under a hub.
    Region,
    /// A region hosted on the hub's machines, for institutions without an EHR (EHR未実装地域).
    Hosted,
}

/// The commented example for `role`.
pub const fn example(role: ExampleRole) -> &'static str {
    match role {
        ExampleRole::Hub => include_str!("../../deploy/hub.toml"),
        ExampleRole::Region => include_str!("../../deploy/region.toml"),
        ExampleRole::Hosted => include_str!("../../deploy/hosted.toml"),
    }
}
