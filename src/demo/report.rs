//! What the demo did: one line a step, or one JSON object.

use std::time::Instant;

use serde::Serialize;

/// One step.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    /// Its name.
    pub name: &'static str,
    /// Whether everything checked was so.
    pub ok: bool,
    /// How long it took.
    pub milliseconds: u64,
    /// What was checked, or what was not so.
    pub checked: Vec<String>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether every step was ok.
    pub ok: bool,
    /// All steps together.
    pub milliseconds: u64,
    /// Regions beside the hub.
    pub regions: usize,
    /// People in the sample.
    pub people: usize,
    /// Identity records fed.
    pub records: usize,
    /// Documents registered.
    pub documents: usize,
    /// The steps, in order.
    pub steps: Vec<Step>,
    #[serde(skip)]
    quiet: bool,
    #[serde(skip)]
    started: Instant,
}

/// What a step found: things that were checked, or the first that was not so.
pub(super) type Checked = anyhow::Result<Vec<String>>;

impl Report {
    /// An empty report; `quiet` if nothing is to be printed on the way.
    #[must_use]
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            ok: true,
            milliseconds: 0,
            regions: 0,
            people: 0,
            records: 0,
            documents: 0,
            steps: Vec::new(),
            quiet,
            started: Instant::now(),
        }
    }

    /// Runs a step and notes what came of it. Says whether to go on.
    pub(super) async fn step(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Checked>,
    ) -> bool {
        let started = Instant::now();
        let result = work.await;
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (ok, checked) = match result {
            Ok(checked) => (true, checked),
            Err(error) => (false, vec![format!("{error:#}")]),
        };
        let step = Step {
            name,
            ok,
            milliseconds,
            checked,
        };
        if !self.quiet {
            print_step(&step);
        }
        self.ok &= ok;
        self.steps.push(step);
        self.milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        ok
    }
}

fn print_step(step: &Step) {
    let mark = if step.ok { "ok  " } else { "FAIL" };
    println!("{mark} {:<44} {:>6} ms", step.name, step.milliseconds);
    for line in &step.checked {
        println!("       {line}");
    }
}
