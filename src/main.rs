//! `renkei`: parse the arguments, run one command, exit.

fn main() {}
