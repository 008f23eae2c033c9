//! `renkei`: parse the arguments, run one command, exit.

/// Fewer and cheaper allocations than the system's on record-heavy replies.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    renkei::cli::main()
}
