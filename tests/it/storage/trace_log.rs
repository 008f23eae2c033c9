//! Reading what `strace -f -y` wrote.

use std::collections::HashMap;

/// One system call. Times are line numbers: of where it was entered and where it returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: String,
    pub(super) result: i64,
    pub(super) entered: usize,
    pub(super) returned: usize,
}

impl Call {
    /// The path of the descriptor that is the first argument, as `-y` shows it.
    pub(super) fn path(&self) -> Option<&str> {
        let (number, rest) = self.arguments.split_once('<')?;
        number.parse::<u32>().ok()?;
        rest.split_once('>').map(|(path, _)| path)
    }

    /// Offset and end of a `pwrite64`, as far as it went.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        let (_, offset) = self.arguments.rsplit_once(", ")?;
        let offset: u64 = offset.parse().ok()?;
        Some((offset, offset + u64::try_from(self.result).ok()?))
    }

    /// The quoted arguments.
    pub(super) fn quoted(&self) -> Vec<&str> {
        self.arguments.split('"').skip(1).step_by(2).collect()
    }
}

/// The calls of a trace, by the order in which they returned. Calls cut in two by others are joined.
pub(super) fn parse(trace: &str) -> Vec<Call> {
    let mut open: HashMap<&str, (usize, String)> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((process, text)) = line.split_once(' ') else {
            continue;
        };
        let text = text.trim_start();
        if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            open.insert(process, (number, begun.to_owned()));
        } else if let Some(resumed) = text.strip_prefix("<... ") {
            let rest = resumed.split_once(" resumed>").map_or("", |(_, rest)| rest);
            if let Some((entered, begun)) = open.remove(process) {
                calls.extend(call(&format!("{begun}{rest}"), entered, number));
            }
        } else {
            calls.extend(call(text, number, number));
        }
    }
    calls
}

fn call(text: &str, entered: usize, returned: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") = ").or_else(|| {
        let (arguments, result) = rest.rsplit_once(" = ")?;
        Some((arguments.trim_end().strip_suffix(')')?, result))
    })?;
    let result = result.split([' ', '<']).next()?.parse().ok()?;
    Some(Call {
        name: name.to_owned(),
        arguments: arguments.trim_end().trim_end_matches(')').to_owned(),
        result,
        entered,
        returned,
    })
}

#[test]
fn calls_are_read_whole_and_in_two_pieces() {
    let trace = "\
12 pwrite64(5</s/ledger/1.seg>, \"RKF1\\0\"..., 300, 128) = 300
13 fdatasync(5</s/ledger/1.seg> <unfinished ...>
12 write(1<pipe:[7]>, \"ack 1 2\\n\", 8) = 8
13 <... fdatasync resumed>)              = 0
13 rename(\"/s/a.tmp\", \"/s/a\")     = 0
13 fsync(6</s>)  = -1 EIO (Input/output error)
13 --- SIGCHLD {si_signo=SIGCHLD} ---
";
    let calls = parse(trace);
    assert_eq!(calls.len(), 5, "{calls:#?}");
    assert_eq!(calls[0].range(), Some((128, 428)));
    assert_eq!(calls[0].path(), Some("/s/ledger/1.seg"));
    assert_eq!(calls[1].quoted(), ["ack 1 2\\n"]);
    assert_eq!((calls[2].entered, calls[2].returned), (1, 3));
    assert_eq!(calls[2].path(), Some("/s/ledger/1.seg"));
    assert_eq!(calls[3].quoted(), ["/s/a.tmp", "/s/a"]);
    assert_eq!((calls[4].path(), calls[4].result), (Some("/s"), -1));
}
