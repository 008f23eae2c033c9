//! The whole command tree, and the commands against a node of their own.

mod live;

use clap::CommandFactory as _;

use super::Cli;

#[test]
fn the_command_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example_and_a_line_of_help() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        let path = path.trim();
        assert!(command.get_about().is_some(), "{path} says nothing");
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        assert!(help.contains("Example"), "{path} has no example");
        assert!(help.contains(path), "{path} shows another command");
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{path}: {} says nothing",
                argument.get_id()
            );
        }
        for one in command.get_subcommands() {
            check(one, path);
        }
    }
    let mut command = Cli::command();
    command.build();
    check(&command, "");
}
