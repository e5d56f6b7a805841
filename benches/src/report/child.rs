//! Work that a process of its own does: so that nothing else counts as its memory, or so that it
//! can be killed.

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{memory, opening};

/// What a child process does.
#[derive(Clone, Debug, Subcommand)]
pub enum ChildWork {
    /// Fills a store with containers and says how the process grew.
    #[command(hide = true)]
    Memory(memory::MemoryWork),
    /// Fills a store and waits to be killed.
    #[command(hide = true)]
    Fill(opening::FillWork),
}

/// Where a child finds the generated data.
#[derive(Args, Clone, Debug)]
pub struct ChildData {
    /// Folder of the generated set; an own one is made without it.
    #[arg(long)]
    pub generated: Option<PathBuf>,
    /// Container slots.
    #[arg(long)]
    pub slots: usize,
}

impl ChildWork {
    /// Does the work in this process; what it found goes to stdout as one line of JSON.
    ///
    /// # Errors
    /// The work failed.
    pub fn run(&self) -> io::Result<()> {
        let found = match self {
            Self::Memory(work) => work.run()?,
            Self::Fill(work) => return work.run(),
        };
        say(&found)
    }
}

/// Tells the parent.
pub(super) fn say(found: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{found}")?;
    out.flush()
}

/// A child process. It is killed when this is dropped.
pub(super) struct Worker {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts this program with other arguments.
    pub fn start(arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("bug: no stdout"))?;
        Ok(Self { child, output: BufReader::new(output) })
    }

    /// Waits for the next line the child says.
    pub fn hear(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.child.wait()?;
            return Err(io::Error::other(format!("a child process ended: {status}")));
        }
        serde_json::from_str(&line).map_err(io::Error::other)
    }

    /// Kills the child at once (SIGKILL) and waits for its end.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails when the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
